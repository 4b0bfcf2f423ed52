-- Put an entry that cannot be read aside, once, however many see it;
-- of one that stays, a copy for each that sees it. KEYS: its stream, the dead letters, for an inbox also what waits in it.
-- ARGV: the entry, the group that reads it or nothing, the reason, the beginning of its bytes, dead letters kept.
-- Says 1 if it was put aside, 2 if a copy was, for it stays where it is.
local stream, dead, waiting = KEYS[1], KEYS[2], KEYS[3]
local entry, group = ARGV[1], ARGV[2]
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
redis.call('XADD', dead, 'MAXLEN', '~', ARGV[5], '*', 'stream', stream, 'entry', entry, 'reason', ARGV[3], 'bytes', ARGV[4], 'stays', stays)
return 1 + stays
