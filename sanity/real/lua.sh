#!/usr/bin/env bash
# lua.sh -- lua: tables, strings, closures and its collector, whose every block goes through realloc.
. "$(dirname "$0")/common.inc"
lua=$(command -v lua lua5.4 lua5.3 lua5.1 | head -n 1)
need "${lua:-lua}"
cat >work.lua <<'END'
local t, parts = {}, {}
for i = 1, 100000 do t[i] = { i, tostring(i) .. string.rep("y", i % 30), function() return i end } end
for i = 1, 100000, 3 do t[i] = false end
local sum, length = 0, 0
for i = 1, 100000 do if t[i] then sum = sum + t[i][3](); length = length + #t[i][2] end end
print(sum, length)
for i = 1, 50000 do parts[#parts + 1] = string.format("%d:%s", i, string.rep("z", i % 11)) end
local s = table.concat(parts, ",")
print(#s, select(2, s:gsub("z+", "w")), #s:upper():reverse())
table.sort(parts)
print(parts[1], parts[25000], parts[50000])
collectgarbage()
END
preload_works "$lua" -e 'print(1)'
same "lua" "$lua" work.lua
