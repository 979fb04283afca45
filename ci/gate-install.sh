#!/usr/bin/env bash
# ci/gate-install.sh -- `make install` into a scratch DESTDIR, then used as a stranger would use it:
# pkg-config, C and C++, dynamic and static, hakmem-run and what it must refuse, uninstall.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${OUT:-out}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
stage=$scratch/stage
prefix=/opt/hakmem
root=$stage$prefix
failed=0
complain() {
    echo "gate-install: $*"
    failed=1
}
make_here() {
    env -u MAKEFLAGS -u MFLAGS "${MAKE:-make}" -s --no-print-directory OUT="$out" DESTDIR="$stage" \
        PREFIX="$prefix" LIBDIR="$prefix/lib/multi" "$@"
}

make_here install
libdir=$root/lib/multi
for file in "$root"/include/hakmem/hakmem.h "$libdir"/libhakmem.so{,.1} "$libdir"/libhakmem.a "$libdir"/libhkm.a \
    "$libdir"/libhakmem-debug.so.1 "$libdir"/pkgconfig/hakmem.pc "$root"/bin/hakmem-run; do
    [[ -e $file ]] || complain "not installed: ${file#"$stage"}"
done

# ---- compile and link against what was installed ----

cat >"$scratch/use.c" <<'END'
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void)
{
    char *mine = hkm_malloc(100);
    char *plain = malloc(100);
    if (mine == NULL || plain == NULL)
        return 1;
    memset(mine, 1, 100);
    memset(plain, 1, 100);
    hkm_free(mine);
    free(plain);
    puts(hkm_version());
    return 0;
}
END
cp "$scratch/use.c" "$scratch/use.cc"
sed -i 's|char \*\(.*\) = \(.*\);|char *\1 = static_cast<char *>(\2);|' "$scratch/use.cc"
pc() { PKG_CONFIG_SYSROOT_DIR=$stage PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config "$@"; }
read -ra cflags <<<"$(pc --cflags hakmem)"
read -ra libs <<<"$(pc --libs hakmem)"
read -ra static_libs <<<"$(pc --static --libs hakmem)"
version=$(pc --modversion hakmem)

try() { # try NAME COMPILER...: build and run
    local name=$1 said
    shift
    if ! "$@" -Wall -Wextra -Werror -o "$scratch/$name"; then
        complain "$name does not build: $*"
    elif ! said=$(LD_LIBRARY_PATH=$libdir "$scratch/$name"); then
        complain "$name fails when run"
    elif [[ $said != "$version" ]]; then
        complain "$name says version '$said', hakmem.pc says '$version'"
    fi
}
try use-dynamic gcc "${cflags[@]}" "$scratch/use.c" "${libs[@]}"
try use-dynamic-c++ g++ "${cflags[@]}" "$scratch/use.cc" "${libs[@]}"
try use-static gcc -static "${cflags[@]}" "$scratch/use.c" "${static_libs[@]}"
try use-static-c++ g++ -static "${cflags[@]}" "$scratch/use.cc" "${static_libs[@]}"
try use-archive gcc "${cflags[@]}" "$scratch/use.c" "$libdir/libhakmem.a"
# GCC's own intermediate code does not name the calls that the compiler knows
cat >"$scratch/knows.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    char *block = malloc(100 * (size_t)argc);
    int status = snprintf(block, 100, "%s", argv[0]) <= 0;
    puts(block);
    free(block);
    return status;
}
END
if ! gcc -O2 -flto -o "$scratch/knows" "$scratch/knows.c" "${static_libs[@]/-lhakmem/-l:libhakmem.a}" || ! "$scratch/knows" >/dev/null; then
    complain "a program built with -flto"
elif nm -D --undefined-only "$scratch/knows" | grep -wE 'malloc|free' >/dev/null; then
    complain "a program built with -flto takes glibc's malloc, not the archive's"
fi
# an exception of which nothing in the program knows but the library
cat >"$scratch/throws.cc" <<'END'
#include <new>
int main()
{
    volatile unsigned long huge = ~0UL / 4;
    try {
        return ::operator new(huge) != nullptr;
    } catch (...) {
        return 0;
    }
}
END
if ! g++ -static -Wl,-u,_ZSt17__throw_bad_allocv -o "$scratch/throws" "$scratch/throws.cc" "${static_libs[@]}" || ! "$scratch/throws"; then
    complain "a static program does not catch std::bad_alloc"
fi
# who takes operator new from the archive takes malloc
if ! g++ -o "$scratch/news" "$scratch/throws.cc" "$libdir/libhakmem.a" || ! nm "$scratch/news" | grep ' T malloc$' >/dev/null; then
    complain "a C++ program that calls new alone leaves malloc to glibc"
fi
# operators of the program's own beside the archive's
if ! g++ -std=c++17 -D_GNU_SOURCE -Iinclude -static -o "$scratch/own-operators" sanity/plain/replaced_operators.cc "${static_libs[@]}" ||
    ! env -u HAKMEM_LIB "$scratch/own-operators" plain_forms_reach_the_programs_own >/dev/null; then
    complain "operators of a program's own beside the archive's"
fi
try use-prefix gcc "${cflags[@]}" "$scratch/use.c" "$libdir/libhkm.a"
try use-prefix-static gcc -static "${cflags[@]}" "$scratch/use.c" "$libdir/libhkm.a"

# ---- hakmem-run ----

# expect_run STATUS REGEX COMMAND...: exit code, and a match in what it says.
expect_run() {
    local want=$1 regex=$2 status=0 said
    shift 2
    said=$("$@" 2>&1) || status=$?
    if ((status != want)) || ! [[ $said =~ $regex ]]; then
        complain "'${*/#"$stage"/}' gave exit code $status (want $want) and said '$said' (want /$regex/)"
    fi
}
cat >"$scratch/show" <<'END'
#!/bin/sh
echo "$LD_PRELOAD|${HAKMEM_OPTIONS:-}"
END
printf '#!/bin/sh\nexit 0\n' >"$scratch/not-executable"
printf 'just text\n' >"$scratch/text"
chmod +x "$scratch/show" "$scratch/text"
cp "$(type -P true)" "$scratch/set-uid" && chmod 4755 "$scratch/set-uid"
cp "$(type -P true)" "$scratch/set-gid" && chmod 2755 "$scratch/set-gid"
printf '#!%s/use-static\n' "$scratch" >"$scratch/static-script" && chmod +x "$scratch/static-script"
# The same program for another machine: e_machine becomes that of s390x.
cp "$(type -P true)" "$scratch/foreign" && printf '\026\000' | dd of="$scratch/foreign" bs=1 seek=18 conv=notrunc status=none

unset LD_PRELOAD HAKMEM_OPTIONS
for run in "$root/bin/hakmem-run" "$out/release/hakmem-run"; do
    expect_run 0 '^$' "$run" /bin/true
    expect_run 0 '^$' "$run" true
    expect_run 1 '^$' "$run" false
    expect_run 0 '/libhakmem\.so[.0-9]*\|$' "$run" "$scratch/show"
    expect_run 0 '/libhakmem-debug\.so[.0-9]*\|$' "$run" --debug "$scratch/show"
    expect_run 0 '\|stats=exit,purge_delay_ms=5' "$run" --stats --option purge_delay_ms=5 "$scratch/show"
    expect_run 0 'libhakmem\.so[.0-9]*:/lib/none\.so' env LD_PRELOAD=/lib/none.so "$run" "$scratch/show"
    expect_run 0 '^usage: hakmem-run' "$run" --help
    expect_run 0 "^hakmem-run $version\$" "$run" --version
    expect_run 127 'no-such-program: not found' "$run" no-such-program
    expect_run 127 'not found' "$run" "$scratch/no-such-file"
    expect_run 126 'is a directory' "$run" "$scratch"
    expect_run 126 'not executable' "$run" "$scratch/not-executable"
    expect_run 126 'statically linked' "$run" "$scratch/use-static"
    expect_run 126 'use-static: is statically linked' "$run" "$scratch/static-script"
    expect_run 126 'is set-uid' "$run" "$scratch/set-uid"
    expect_run 126 'is set-gid' "$run" "$scratch/set-gid"
    expect_run 126 'another machine' "$run" "$scratch/foreign"
    expect_run 126 'neither an ELF' "$run" "$scratch/text"
    expect_run 125 'unknown option --nonsense' "$run" --nonsense true
    expect_run 125 '^hakmem-run: --trace= needs a path$' "$run" --trace= true
    expect_run 125 '^hakmem-run: --trace needs a file$' "$run" --trace '' true
    expect_run 126 '^hakmem-run: cannot write /no/such/folder/t$' "$run" --trace=/no/such/folder/t true
    expect_run 126 '^hakmem-run: cannot write /$' "$run" --trace / true
    expect_run 125 '^hakmem-run: --lib= needs a path$' "$run" --lib= true
    expect_run 0 'fast_cap' env HAKMEM_OPTIONS=help "$run" ls /
    if cp "$(type -P true)" "$scratch/capable" && setcap cap_net_raw+ep "$scratch/capable" 2>/dev/null; then
        expect_run 126 'file capabilities' "$run" "$scratch/capable"
    fi
done
# The installed tree may be moved as a whole.
mv "$stage" "$scratch/moved"
expect_run 0 '/moved/.*libhakmem\.so[.0-9]*\|' "$scratch/moved$prefix/bin/hakmem-run" "$scratch/show"
mv "$scratch/moved" "$stage"

make_here uninstall
left=$(find "$stage" ! -type d)
[[ -z $left ]] || complain "make uninstall leaves: $left"
exit "$failed"
