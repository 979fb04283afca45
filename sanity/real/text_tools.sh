#!/usr/bin/env bash
# text_tools.sh -- awk, sort, sed, grep, uniq, join over a large file; tar and find over many; a long bash loop.
. "$(dirname "$0")/common.inc"
need awk sort sed grep tar find
awk 'BEGIN { s = 42; for (i = 0; i < 200000; i++) { s = (s * 1103515245 + 12345) % 2147483648; print s % 9973, "word" s % 777, i } }' >data
cat >pipeline.sh <<'END'
sort -k1,1n -k2,2 -k3,3n data | md5sum
sort --parallel=2 -S 2M -u -k2,2 data | md5sum
awk '{ count[$2] += $1; text[$1] = text[$1] "," $3 } END { for (w in count) print w, count[w]; for (n in text) print n, length(text[n]) }' data | sort | md5sum
sed -E 's/word([0-9])([0-9]*)/\2-\1/g; y/0123456789/abcdefghij/; N; P; D' data | md5sum
grep -E '^(1|22|333).*word[0-9]{2} ' data | md5sum
grep -vc 'word7[0-7]' data
cut -d' ' -f2 data | sort | uniq -c | sort -rn | head -n 20
tr ' ' '\n' <data | rev | tac | md5sum
END
cat >loop.sh <<'END'
declare -A table
for ((i = 0; i < 30000; i++)); do table[k$((i * 7919 % 5000))]+=$i,; done
text=; for k in $(printf '%s\n' "${!table[@]}" | sort); do text+="$k=${table[$k]};"; done
echo ${#text} $(md5sum <<<"$text")
for i in {1..50}; do (echo "$i $(echo "$text" | wc -c)"); done | md5sum
x=${text:0:5000}; x=${x//[0-9]/N}; echo ${#x}
END
cat >files.sh <<'END'
mkdir -p tree; cd tree
for d in {1..20}; do mkdir -p d$d/e/f; for f in {1..15}; do echo "$d $f" >d$d/e/f/file$f; done; done
cd ..; tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - tree | md5sum
tar -cf - tree | tar -tf - | sort | md5sum
find tree -type f -name 'file1*' -size -10k | sort | md5sum
find tree -depth -type f -exec cat {} + | sort | md5sum
du -a --apparent-size tree | sort | md5sum; ls -laR --time-style=+ tree | grep -v total | md5sum
rm -rf tree
END
preload_works sort data
preload_works awk 'BEGIN { print 1 }'
preload_works tar --version
same "awk, sort, sed, grep" bash pipeline.sh
same "bash loop" bash loop.sh
same "tar and find" bash files.sh
