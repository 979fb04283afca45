#!/usr/bin/env bash
# tclsh.sh -- tcl: dictionaries, lists, strings and regular expressions.
. "$(dirname "$0")/common.inc"
need tclsh
cat >work.tcl <<'END'
set d [dict create]
for {set i 0} {$i < 50000} {incr i} { dict set d k[expr {$i * 7919 % 20011}] [string repeat x [expr {$i % 50}]] }
puts [dict size $d]
set n 0
dict for {k v} $d { incr n [string length $v] }
puts $n
set l [lsort [dict keys $d]]
puts [lindex $l 0],[lindex $l 10000]
puts [regsub -all {k(\d)} [join $l ,] {\1K} t],[string length $t]
END
echo 'puts 1' >one.tcl
preload_works tclsh one.tcl
same "tclsh" tclsh work.tcl
