-- Put an entry that cannot be read aside, once, however many see it;
-- of one that stays, a copy for each that sees it. KEYS: its stream, the dead letters, for an inbox also what waits in it.
-- ARGV: the entry, the group that reads it or nothing, the reason, the beginning of its bytes, for how many milliseconds dead letters are kept, how many there
-- may be, and how old in milliseconds one is that makes way then.
-- Says 1 if it was put aside, 2 if it stays where it is and a copy was, unless there were far too many, 3 if it is gone, for there were too many dead letters.
local stream, dead, waiting = KEYS[1], KEYS[2], KEYS[3]
local entry, group, kept_ms, most, way_ms = ARGV[1], ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if group ~= '' then
  redis.call('XACK', stream, group, entry)
end
-- What a zone has sent is the only record of what it carries. It stays, and is not told again to those who read with this group: the next
-- instance begins another one, and may be able to read it. That it is there is said among the dead letters all the same, by each instance.
local stays = 0
for _, named in ipairs(waiting and redis.call('HGETALL', waiting) or {}) do
  if named == entry then
    stays = 1
  end
end
if stays == 0 and redis.call('XDEL', stream, entry) == 0 then
  return 0
end
local now_ms = redis.call('TIME')[1] * 1000
-- As many as a stream takes away at once.
local function let_go(age_ms)
  redis.call('XTRIM', dead, 'MINID', '~', string.format('%.0f-0', math.max(now_ms - age_ms, 0)), 'LIMIT', 100)
end
let_go(kept_ms)
if redis.call('XLEN', dead) >= most then
  let_go(way_ms)
end
-- Of what stays each matters, and as many again are written down.
if redis.call('XLEN', dead) < most * (1 + stays) then
  redis.call('XADD', dead, '*', 'stream', stream, 'entry', entry, 'reason', ARGV[3], 'bytes', ARGV[4], 'stays', stays)
elseif stays == 0 then
  return 3
end
return 1 + stays
