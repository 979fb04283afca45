# soak.gp -- what a soak left in `folder`: resident memory and live bytes, and what is in use at rest.
set terminal svg size 1100,900 font 'sans,12' background 'white'
set output folder.'/soak.svg'
set datafile separator "\t"
set multiplot layout 3,1
set key outside top center horizontal
set xlabel 'minutes'
set ylabel 'MiB'
plot folder.'/samples.tsv' using ($1/60):3 skip 1 with lines lc rgb '#c04020' title 'resident', \
     '' using ($1/60):2 skip 1 with lines lc rgb '#2050a0' title 'live', \
     folder.'/rests.tsv' using ($1/60):7 skip 1 with points pt 7 ps 0.4 lc rgb 'black' title 'resident at rest'
set ylabel 'slots'
plot folder.'/samples.tsv' using ($1/60):4 skip 1 with lines lc rgb '#208040' title 'runs in use', \
     folder.'/rests.tsv' using ($1/60):2 skip 1 with points pt 7 ps 0.4 lc rgb 'black' title 'at rest'
set ylabel 'heaps'
set y2label 'MiB'
set y2tics
plot folder.'/rests.tsv' using ($1/60):5 skip 1 with lines lc rgb '#804080' title 'heaps', \
     '' using ($1/60):6 skip 1 axes x1y2 with lines lc rgb '#806020' title 'metadata at rest, MiB'
unset multiplot
