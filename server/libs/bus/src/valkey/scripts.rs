//! The scripts, and how they are called. Each is called by its hash; who opens a connection loads them all first.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, Script};

const PRELUDE: &str = include_str!("lua/prelude.lua");

/// What the store does atomically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptName {
    Begin,
    Claim,
    Assert,
    Recall,
    Spawn,
    Retire,
    Checkpoint,
    Transfer,
    Settle,
    Accept,
    Agree,
    Bury,
    Renew,
    GiveBack,
    Follow,
    Followed,
    Announce,
    Withdraw,
    Listed,
    Check,
    Tidy,
    Trim,
}

/// Whether the prelude of the commands stands before it.
enum Kind {
    Command,
    Plain,
}

struct Known {
    name: ScriptName,
    source: String,
    script: Script,
}

static SCRIPTS: LazyLock<Vec<Known>> = LazyLock::new(|| {
    use Kind::{Command, Plain};
    use ScriptName as Name;
    let texts = [
        (Name::Begin, Command, include_str!("lua/begin.lua")),
        (Name::Claim, Command, include_str!("lua/claim.lua")),
        (Name::Assert, Command, include_str!("lua/assert.lua")),
        (Name::Recall, Command, include_str!("lua/recall.lua")),
        (Name::Spawn, Command, include_str!("lua/spawn.lua")),
        (Name::Retire, Command, include_str!("lua/retire.lua")),
        (Name::Checkpoint, Command, include_str!("lua/checkpoint.lua")),
        (Name::Transfer, Command, include_str!("lua/transfer.lua")),
        (Name::Settle, Command, include_str!("lua/settle.lua")),
        (Name::Accept, Command, include_str!("lua/accept.lua")),
        (Name::Agree, Plain, include_str!("lua/agree.lua")),
        (Name::Bury, Plain, include_str!("lua/bury.lua")),
        (Name::Renew, Plain, include_str!("lua/renew.lua")),
        (Name::GiveBack, Plain, include_str!("lua/give_back.lua")),
        (Name::Follow, Plain, include_str!("lua/follow.lua")),
        (Name::Followed, Plain, include_str!("lua/followed.lua")),
        (Name::Announce, Plain, include_str!("lua/announce.lua")),
        (Name::Withdraw, Plain, include_str!("lua/withdraw.lua")),
        (Name::Listed, Plain, include_str!("lua/listed.lua")),
        (Name::Check, Plain, include_str!("lua/check.lua")),
        (Name::Tidy, Plain, include_str!("lua/tidy.lua")),
        (Name::Trim, Plain, include_str!("lua/trim.lua")),
    ];
    let known = texts.into_iter().map(|(name, kind, text)| {
        let source = match kind {
            Command => format!("{PRELUDE}{text}"),
            Plain => text.to_owned(),
        };
        let script = Script::new(&source);
        Known { name, source, script }
    });
    known.collect()
});

/// Begins the call of a script; its arguments follow.
pub(super) fn call(name: ScriptName, keys: &[String]) -> Cmd {
    let hash = SCRIPTS
        .iter()
        .find(|known| known.name == name)
        .map_or("", |known| known.script.get_hash());
    let mut command = redis::cmd("EVALSHA");
    command.arg(hash).arg(keys.len()).arg(keys);
    command
}

/// What tells the store of all scripts.
pub(super) fn load_all() -> Pipeline {
    let mut pipeline = redis::pipe();
    for known in SCRIPTS.iter() {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(&known.source).ignore();
    }
    pipeline
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_script_is_known_once() {
        let hashes: HashSet<&str> = SCRIPTS.iter().map(|known| known.script.get_hash()).collect();
        assert_eq!(hashes.len(), SCRIPTS.len());
        assert_eq!(SCRIPTS.last().map(|known| known.name as usize), Some(SCRIPTS.len() - 1));
        assert!(SCRIPTS.iter().enumerate().all(|(at, known)| known.name as usize == at));
        assert_eq!(load_all().len(), SCRIPTS.len());
    }
}
