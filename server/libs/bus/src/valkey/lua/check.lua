-- Whether this user may do all that the scripts and tasks do. Says nothing, or what the store says against it. KEYS: three keys that nothing else uses.
local hash, set, stream = KEYS[1], KEYS[2], KEYS[3]
local needed = {
  { 'DEL', hash, set, stream },
  { 'HSET', hash, 'a', '1' },
  { 'HSETNX', hash, 'a', '1' },
  { 'HINCRBY', hash, 'a', '1' },
  { 'HGET', hash, 'a' },
  { 'HMGET', hash, 'a' },
  { 'HGETALL', hash },
  { 'HDEL', hash, 'a' },
  { 'ZADD', set, '1', 'a' },
  { 'ZSCORE', set, 'a' },
  { 'ZCOUNT', set, '0', '1' },
  { 'ZRANGEBYSCORE', set, '0', '1' },
  { 'ZREM', set, 'a' },
  { 'ZREMRANGEBYSCORE', set, '0', '1' },
  { 'XADD', stream, '1-1', 'e', '1' },
  { 'XGROUP', 'CREATE', stream, 'g', '0' },
  { 'XREAD', 'STREAMS', stream, '1-1' },
  { 'XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', stream, '>' },
  { 'XPENDING', stream, 'g', '-', '+', '1', 'c' },
  { 'XCLAIM', stream, 'g', 'c', '0', '1-1', 'JUSTID' },
  { 'XAUTOCLAIM', stream, 'g', 'c', '0', '0', 'COUNT', '1' },
  { 'XINFO', 'GROUPS', stream },
  { 'XINFO', 'CONSUMERS', stream, 'g' },
  { 'XACK', stream, 'g', '1-1' },
  { 'XRANGE', stream, '-', '+' },
  { 'XREVRANGE', stream, '+', '-', 'COUNT', '1' },
  { 'XLEN', stream },
  { 'XTRIM', stream, 'MINID', '0' },
  { 'XDEL', stream, '1-1' },
  { 'XGROUP', 'DELCONSUMER', stream, 'g', 'c' },
  { 'XGROUP', 'DESTROY', stream, 'g' },
  { 'TIME' },
  { 'INFO', 'server' },
  { 'DEL', hash, set, stream },
}
for _, command in ipairs(needed) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    return answer.err
  end
end
return ''
