//! Who only looks at a world changes nothing.

use meridian_bus::directory::{Directory, Service, ServiceDetail, ServiceKind};
use meridian_bus::valkey::{ValkeyError, ValkeyOptions, ValkeyWorld};

use crate::server::{self, Server};
use crate::zone::{World, until};

fn gateway() -> Service {
    Service {
        kind: ServiceKind::Gateway,
        instance: "one".to_owned(),
        fabric: None,
        public: Some(([127, 0, 0, 1], 7).into()),
        admin: None,
        load: 4,
        detail: ServiceDetail::default(),
    }
}

fn look(options: &ValkeyOptions) -> Result<Vec<Service>, ValkeyError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listed = runtime.block_on(ValkeyWorld::look(options, runtime.handle()))?;
    Ok(listed.into_iter().map(|listed| listed.service).collect())
}

#[test]
fn a_world_that_is_not_there_is_told_so_and_does_not_come_to_be() {
    let server = Server::start(&["--save", ""]);
    let options = World::options(&server);
    let world = options.world.clone();
    let error = look(&options).unwrap_err();
    assert_eq!(error, ValkeyError::NoWorld { world: world.clone() });
    assert!(error.to_string().contains(&world));
    let keys: usize = redis::cmd("DBSIZE").query(&mut server.raw()).unwrap();
    assert_eq!(keys, 0);
    drop(World::connect(options.clone()).unwrap());
    assert_eq!(look(&options), Ok(Vec::new()), "it is there, and nobody in it");
}

#[test]
fn who_may_only_read_sees_who_is_there() {
    let server = Server::start(&["--save", ""]);
    let world = World::new(&server);
    let mut raw = server.raw();
    let mut set_user = redis::cmd("ACL");
    set_user
        .arg("SETUSER")
        .arg("looker")
        .arg("on")
        .arg(">hunter2")
        .arg("resetchannels")
        .arg("-@all");
    set_user.arg(format!("%R~{{{}}}:*", world.options.world));
    set_user.arg(&["+ping", "+hget", "+hgetall", "+time"]);
    set_user.exec(&mut raw).unwrap();
    let options = ValkeyOptions {
        url: format!("redis://looker:hunter2@127.0.0.1:{}", server.port),
        ..world.options.clone()
    };
    let services = format!("{{{}}}:services", world.options.world);
    for (name, value) in [("far", "9999999999999999"), ("text", "text"), ("inf", "inf")] {
        redis::cmd("HSET")
            .arg(&services)
            .arg(name)
            .arg(value)
            .exec(&mut raw)
            .unwrap();
        assert_eq!(look(&options), Ok(Vec::new()));
    }
    let announced = world.world.directory().announce(gateway()).unwrap();
    until("it is seen", || look(&options) == Ok(vec![gateway()]));
    drop(announced);
    until("it is not", || look(&options) == Ok(Vec::new()));
    assert!(World::connect(options).is_err(), "and may do nothing else");
}

#[test]
fn a_world_of_another_layout_is_not_read() {
    let options = World::options(server::shared());
    let meta = format!("{{{}}}:meta", options.world);
    redis::cmd("HSET")
        .arg(meta)
        .arg("layout")
        .arg("0")
        .exec(&mut server::shared().raw())
        .unwrap();
    assert!(matches!(look(&options), Err(ValkeyError::OtherLayout { found, .. }) if found == "0"));
}
