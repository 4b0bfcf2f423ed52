//! How long events are kept: until all groups are done with them, and no longer.

use meridian_bus::{EVENTS_MAX, EVENTS_UNREAD_MAX};

use crate::server::Server;
use crate::zone::{WEST, World, Zone, until};

/// Entries of which a stream takes all away at once, or none.
const NODE: usize = 100;

/// A zone that publishes into a stream that a test has filled.
struct Stream {
    server: Server,
    _world: World,
    zone: Zone,
    raw: redis::Connection,
    key: String,
    published: u64,
}

impl Stream {
    fn new() -> Self {
        let server = Server::start(&["--save", ""]);
        let world = World::new(&server);
        let zone = Zone::claim(&world.world, WEST);
        let (raw, key) = (server.raw(), format!("{{{}}}:events", world.options.world));
        let published = 0;
        Self {
            server,
            _world: world,
            zone,
            raw,
            key,
            published,
        }
    }

    fn fill(&mut self, count: usize) {
        let script =
            "for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'e', 'thirty bytes, as many as events') end";
        for begun in (0..count).step_by(1 << 16) {
            let mut fill = redis::cmd("EVAL");
            fill.arg(script).arg(1).arg(&self.key).arg((count - begun).min(1 << 16));
            fill.exec(&mut self.raw).unwrap();
        }
    }

    fn length(&mut self) -> usize {
        redis::cmd("XLEN").arg(&self.key).query(&mut self.raw).unwrap()
    }

    fn begin_group(&mut self, group: &str) {
        let mut begin = redis::cmd("XGROUP");
        begin.arg("CREATE").arg(&self.key).arg(group).arg(0).arg("MKSTREAM");
        begin.exec(&mut self.raw).unwrap();
    }

    /// Reads so many entries, and says their names.
    fn read(&mut self, group: &str, count: usize) -> Vec<String> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(group).arg("one").arg("COUNT").arg(count);
        read.arg("STREAMS").arg(&self.key).arg(">");
        let read: redis::streams::StreamReadReply = read.query(&mut self.raw).unwrap();
        read.keys
            .into_iter()
            .flat_map(|key| key.ids)
            .map(|entry| entry.id)
            .collect()
    }

    fn acknowledge(&mut self, group: &str, entries: &[String]) {
        for entries in entries.chunks(1_000) {
            let mut acknowledge = redis::cmd("XACK");
            acknowledge.arg(&self.key).arg(group).arg(entries);
            acknowledge.exec(&mut self.raw).unwrap();
        }
    }

    /// How often was looked for what nobody needs any more.
    fn looks(&mut self) -> Option<String> {
        let information: String = redis::cmd("INFO").arg("commandstats").query(&mut self.raw).unwrap();
        let line = information
            .lines()
            .find(|line| line.starts_with("cmdstat_xinfo|groups:"))?;
        line.split(',').next().map(str::to_owned)
    }

    /// The zone tells of one, and whoever looks for what nobody needs any more has looked since.
    fn publish(&mut self) {
        let looks = self.looks();
        self.published += 1;
        assert_eq!(self.zone.tell(self.published), self.zone.spawned());
        until("it is looked", || self.looks() != looks);
    }
}

#[test]
fn what_a_group_has_not_read_or_not_acknowledged_is_kept_however_many_come_after_it() {
    let mut stream = Stream::new();
    let all = EVENTS_MAX + 2 * NODE;
    stream.begin_group("store");
    stream.begin_group("chat");
    stream.fill(all);
    stream.publish();
    assert_eq!(stream.length(), all + 1, "nobody has read anything");
    let read = stream.read("chat", all + 1);
    stream.acknowledge("chat", &read);
    let read = stream.read("store", all);
    assert_eq!(read.len(), all);
    stream.publish();
    assert_eq!(stream.length(), all + 2, "read is not acknowledged");
    stream.acknowledge("store", &read[1..]);
    stream.publish();
    assert_eq!(stream.length(), all + 3, "the first is not");
    stream.acknowledge("store", &read);
    until("what all are done with goes", || {
        stream.publish();
        stream.length() <= 2 * NODE
    });
    assert_eq!(
        stream.read("store", all).len() as u64,
        stream.published,
        "what came after it is there"
    );
}

#[test]
fn while_there_is_no_group_the_newest_are_kept_for_one_to_come() {
    let mut stream = Stream::new();
    stream.fill(EVENTS_MAX + 5 * NODE);
    until("there are not more", || {
        stream.publish();
        stream.length() <= EVENTS_MAX + NODE
    });
    assert!(stream.length() >= EVENTS_MAX);
}

#[test]
fn a_group_that_nobody_reads_for_does_not_fill_the_store() {
    let mut stream = Stream::new();
    stream.begin_group("gone");
    stream.fill(EVENTS_UNREAD_MAX + 5 * NODE + 7);
    let last = |stream: &mut Stream| -> redis::streams::StreamRangeReply {
        let mut last = redis::cmd("XREVRANGE");
        last.arg(&stream.key).arg("+").arg("-").arg("COUNT").arg(1);
        last.query(&mut stream.raw).unwrap()
    };
    stream.publish();
    let newest = last(&mut stream).ids.remove(0).id;
    assert_eq!(stream.length(), EVENTS_UNREAD_MAX);
    stream.publish();
    assert_eq!(stream.length(), EVENTS_UNREAD_MAX);
    assert_ne!(last(&mut stream).ids.remove(0).id, newest, "the oldest go");
    let information: String = redis::cmd("INFO")
        .arg("memory")
        .query(&mut stream.server.raw())
        .unwrap();
    let used = information
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:")?.parse::<u64>().ok());
    assert!(used.unwrap() < 100 << 20, "{used:?} bytes");
}
