#!/usr/bin/env bash
# gs.sh -- ghostscript renders a page to pixels.
. "$(dirname "$0")/common.inc"
need gs
cat >work.ps <<'END'
%!PS
/Helvetica findfont 14 scalefont setfont
0 1 60 { /i exch def 40 i 12 mul 30 add moveto (line of text number ) show i 10 string cvs show
  i 3 mod 3 div i 5 mod 5 div 0.5 setrgbcolor } for
0 1 200 { /i exch def newpath 300 400 i 0 360 arc i 200 div setgray stroke } for
showpage
END
preload_works gs -q -dNODISPLAY -dBATCH -c quit
same "gs" gs -q -dSAFER -dBATCH -dNOPAUSE -sDEVICE=ppmraw -r60 -sOutputFile=- work.ps
