#!/usr/bin/env bash
# ruby.sh -- ruby: hashes, strings, sorting, threads and fork.
. "$(dirname "$0")/common.inc"
need ruby
cat >work.rb <<'END'
h = {}
60000.times { |i| h["k#{i}"] = ["x" * (i % 60), i, { i => i.to_s }] }
h.delete_if { |_, v| v[1] % 3 == 0 }
puts h.size, h.values.sum { |v| v[0].size }
puts (1..50000).map { |i| (i * 7919 % 10007).to_s + "z" * (i % 9) }.sort.join.sum
r = (0...8).map { |n| Thread.new { (1..5000).map { |i| "t#{n}#{i}" * (i % 5) }.sum(&:size) } }.map(&:value)
p r
5.times { |n| fork { exit!((1..5000).map { |i| "c#{i}" }.size == 5000 ? 0 : 1) } }
p Process.waitall.all? { |_, s| s.success? }
GC.start
puts ("abc" * 100000).gsub(/b+/) { |m| m.upcase * 2 }.size
END
ruby -e 1 >/dev/null 2>&1 || { echo "skip: ruby does not start here"; exit 77; }
preload_works ruby -e 1
same "ruby" ruby work.rb
