//! Who a command acts as: sessions, the files that keep them, and what becomes of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::program::Program;
use crate::world::TestServer;

fn stored(path: &std::path::Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_session_is_kept_for_its_user_alone_and_goes_on() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    assert_eq!(cli.json(&["join"]).result()["name"], "Tester");
    let files = cli.session_files();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(files[0].parent().unwrap()).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(stored(&files[0])["joined"]["tick_rate_hz"], 60);

    let again = cli.json(&["join"]).result();
    assert_eq!((&again["player"], &again["session"]), (&"p1".into(), &"resumed".into()));
    assert_eq!(server.sessions.lock().unwrap().given(), 2);
    // What is good is used as it is.
    cli.json(&["move", "north", "--ticks", "1"]).result();
    assert_eq!(server.sessions.lock().unwrap().given(), 2);
}

#[test]
fn commands_act_as_who_joined_last_unless_they_name_another() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join", "--name", "Ada"]).result();
    cli.json(&["join", "--name", "Bob"]).result();
    assert_eq!(cli.session_files().len(), 2);
    assert_eq!(cli.json(&["leave"]).result()["name"], "Bob");
    assert_eq!(cli.json(&["leave", "--name", "Ada"]).result()["name"], "Ada");
    let mut from_environment = cli.command(&["--json", "join"]);
    let output = from_environment.env("MERIDIAN_CLI_NAME", "Ada").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains(r#""player":"p1""#));
}

#[test]
fn a_session_file_can_be_named() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let file = cli.folder().join("mine.json");
    let file = file.to_str().unwrap();
    cli.json(&["--session", file, "join", "--name", "Ada"]).result();
    assert!(!cli.folder().join("meridian").exists());
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(cli.json(&["--session", file, "leave"]).result()["name"], "Ada");

    let other = TestServer::start();
    let foreign = cli
        .json(&["--auth", &format!("http://{}", other.auth), "--session", file, "join"])
        .error();
    assert_eq!(
        (&foreign["error"], &foreign["exit_code"]),
        (&"session_file".into(), &1.into())
    );
    assert_eq!(
        other.sessions.lock().unwrap().given(),
        0,
        "the token of one auth is not told to another"
    );
}

#[test]
fn a_session_that_is_named_acts_as_nobody_else() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let file = cli.folder().join("mine.json");
    let file = file.to_str().unwrap();
    cli.json(&["--session", file, "join", "--name", "Ada"]).result();
    let kept = fs::read(file).unwrap();
    for command in [
        &["join"][..],
        &["move", "north", "--ticks", "1"],
        &["leave"],
        &["watch", "--count", "1"],
    ] {
        let error = cli
            .json(&[&["--session", file, "--name", "Bob"], command].concat())
            .error();
        assert_eq!(
            (&error["error"], &error["exit_code"]),
            (&"session_file".into(), &1.into()),
            "{command:?}"
        );
        let message = error["message"].as_str().unwrap();
        for word in ["Ada", "Bob", "--name"] {
            assert!(message.contains(word), "{word} in {message}");
        }
    }
    assert_eq!(fs::read(file).unwrap(), kept);
    assert_eq!(server.world().player(1).unwrap().ticks_walked, 0);
    assert_eq!(
        cli.json(&["--session", file, "--name", "Ada", "leave"]).result()["name"],
        "Ada"
    );
}

#[test]
fn a_named_file_that_is_no_session_is_refused_and_left_as_it_is() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    let at = |name: &str| cli.folder().join(name);
    fs::write(at("notes.txt"), "bread, milk").unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::create_dir(at("folder")).unwrap();
    std::os::unix::fs::symlink(at("notes.txt"), at("link")).unwrap();
    std::os::unix::fs::symlink(at("nothing"), at("loose")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let entries = || {
        let entries = fs::read_dir(cli.folder()).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name(), format!("{:?}", entry.file_type().unwrap()))
        });
        entries.collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = entries();
    for name in ["notes.txt", "empty", "folder", "link", "loose", "fifo"] {
        for command in [&["join"][..], &["leave"]] {
            let path = at(name);
            let error = cli
                .json(&[&["--session", path.to_str().unwrap()], command].concat())
                .error();
            assert_eq!(
                (&error["error"], &error["exit_code"]),
                (&"session_file".into(), &1.into()),
                "{name} {error}"
            );
            assert!(error["message"].as_str().unwrap().contains("left as it is"), "{error}");
            assert_eq!(entries(), before, "{name} {command:?}");
        }
    }
    assert_eq!(fs::read_to_string(at("notes.txt")).unwrap(), "bread, milk");
    assert_eq!(server.sessions.lock().unwrap().given(), 0, "nobody is asked before");
}

#[test]
fn what_is_no_session_is_put_aside_and_told() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let file = cli.session_files().remove(0);
    fs::write(&file, "{ broken").unwrap();
    let run = cli.json(&["join"]);
    assert_eq!(run.code, 0, "{run:?}");
    let lines = run.json();
    assert_eq!(
        (&lines[0]["notice"], &lines[1]["session"]),
        (&"session_put_aside".into(), &"new".into()),
        "{run:?}"
    );
    let aside = format!("{}.broken", file.display());
    assert_eq!(fs::read_to_string(&aside).unwrap(), "{ broken");
    fs::write(&file, "{ broken").unwrap();
    let run = cli.run(&["move", "north", "--ticks", "1"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.err.contains(&aside) && run.err.contains("join first"), "{run:?}");
}

#[test]
fn without_a_session_one_is_to_join_first() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    for command in [&["leave"][..], &["move", "north", "5"], &["watch"], &["play"]] {
        let error = cli.json(command).error();
        assert_eq!(
            (&error["error"], &error["exit_code"]),
            (&"no_session".into(), &4.into()),
            "{command:?}"
        );
    }
}

#[test]
fn a_session_that_is_about_to_expire_is_renewed() {
    let server = TestServer::start();
    server.sessions.lock().unwrap().expires_in_s = 1;
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    let before = stored(&cli.session_files()[0]);
    cli.json(&["move", "north", "--ticks", "1"]).result();
    let after = stored(&cli.session_files()[0]);
    assert_ne!(before["resume"], after["resume"]);
    assert_eq!(before["joined"], after["joined"]);
    assert_eq!(server.sessions.lock().unwrap().given(), 2);
}

#[test]
fn a_session_that_is_over_ends_commands_and_join_begins_another() {
    let server = TestServer::start();
    let cli = Program::of(&server);
    cli.json(&["join"]).result();
    server.sessions.lock().unwrap().forget();
    let error = cli.json(&["leave"]).error();
    assert_eq!(
        (&error["error"], &error["code"], &error["exit_code"]),
        (&"token".into(), &"UNAUTHENTICATED".into(), &4.into())
    );
    assert!(error["message"].as_str().unwrap().contains("join again"), "{error}");

    let run = cli.json(&["join"]);
    let lines = run.json();
    assert_eq!(
        (&lines[0]["notice"], &lines[1]["session"]),
        (&"session_replaced".into(), &"replaced".into()),
        "{run:?}"
    );
    assert_eq!(lines[1]["player"], "p2");

    server.sessions.lock().unwrap().expires_in_s = 1;
    cli.json(&["join"]).result();
    server.sessions.lock().unwrap().forget();
    let error = cli.json(&["leave"]).error();
    assert_eq!(
        (&error["error"], &error["exit_code"]),
        (&"session_over".into(), &4.into())
    );
}

#[test]
fn another_protocol_version_is_told() {
    let server = TestServer::start();
    server.sessions.lock().unwrap().protocol_version += 1;
    let cli = Program::of(&server);
    let error = cli.json(&["join"]).error();
    assert_eq!(
        (&error["error"], &error["exit_code"]),
        (&"protocol_version".into(), &1.into())
    );
    assert!(
        error["message"].as_str().unwrap().contains("built with this server"),
        "{error}"
    );
}
