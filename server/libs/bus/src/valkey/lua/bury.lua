-- Put an entry that cannot be read aside, once, however many see it;
-- of one that stays, a copy for each that sees it. KEYS: its stream, the dead letters, for an inbox also what waits in it.
-- ARGV: the entry, the group that reads it or nothing, the reason, the beginning of its bytes, for how many milliseconds dead letters are kept, and how many
-- there may be before no more are written down.
-- Says 1 if it was put aside, 2 if a copy was, for it stays where it is, 3 if it is gone, for there were too many dead letters.
local stream, dead, waiting = KEYS[1], KEYS[2], KEYS[3]
local entry, group, kept_ms, most = ARGV[1], ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[6])
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
local time = redis.call('TIME')
redis.call('XTRIM', dead, 'MINID', '~', string.format('%.0f-0', math.max(time[1] * 1000 - kept_ms, 0)))
if redis.call('XLEN', dead) < most then
  redis.call('XADD', dead, '*', 'stream', stream, 'entry', entry, 'reason', ARGV[3], 'bytes', ARGV[4], 'stays', stays)
elseif stays == 0 then
  return 3
end
return 1 + stays
