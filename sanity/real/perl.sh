#!/usr/bin/env bash
# perl.sh -- perl: hashes, sorting, regular expressions, string building, fork, and its own sprintf and pack.
. "$(dirname "$0")/common.inc"
need perl
cat >work.pl <<'END'
use strict; use warnings; use Digest::SHA qw(sha256_hex);
srand(42);
my %h; $h{"k$_"} = [$_, "x" x ($_ % 60), { n => $_ }] for 1 .. 60000;
delete $h{"k$_"} for grep { $_ % 3 == 0 } 1 .. 60000;
my $t = join ",", map { "$_=$h{$_}[1]" } sort keys %h;
print length($t), " ", sha256_hex($t), "\n";
my $n = 0; $n++ while $t =~ /k(\d+)=(x{3,7})/g; print "$n\n";
my @a = sort { $a <=> $b } map { rand } 1 .. 100000; print sha256_hex(join " ", map { sprintf "%.9f", $_ } @a), "\n";
my $s = ""; for my $i (1 .. 200000) { $s .= pack("N", $i); substr($s, 0, 100, "") if length($s) > 300000; }
print sha256_hex($s), "\n";
my @pids; for my $i (1 .. 5) {
  my $pid = fork(); if (!$pid) { my @x = map { "c$i-$_" } 1 .. 20000; exit(@x == 20000 ? 0 : 1) } push @pids, $pid; }
my $bad = 0; for (@pids) { waitpid($_, 0); $bad++ if $?; } print "bad children: $bad\n";
END
preload_works perl -e 'print 1'
same "perl" env PERL_HASH_SEED=0 perl work.pl
