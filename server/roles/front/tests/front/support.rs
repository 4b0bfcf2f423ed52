//! Fronts and their callers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use meridian_bus::directory::{Announcement, Directory, InProcessDirectory, Service, ServiceDetail, ServiceKind};
use meridian_bus::{InProcess, in_process};
use meridian_front::{FrontConfig, FrontContext, WorldSummary, ZoneSummary, serve};
use meridian_ids::{LeaseEpoch, PlayerId, Rectangle, Tick, TickClock, TickRate, ZoneId};
use meridian_rpc::v1::game_server_client::GameServerClient;
use meridian_rpc::v1::{JoinRequest, LeaveRequest, MoveRequest, MoveResponse};
use meridian_rpc::{AUTHORIZATION, ErrorWord};
use meridian_runtime::{SecretKey, Shutdown};
use meridian_session::TokenUserData;
use meridian_tokens::ResumeSeal;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::zone::Zone;

/// What does not happen for so long does not happen.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Zones lie next to each other along x, so many metres wide.
const ZONE_M: f32 = 100.0;

pub type Client = GameServerClient<Channel>;

pub fn key() -> SecretKey {
    SecretKey::from([7; 32])
}

/// What several fronts share.
pub struct World {
    pub bus: InProcess,
    pub directory: InProcessDirectory,
    zones: u16,
}

impl World {
    pub fn new(zones: u16) -> Self {
        Self {
            bus: in_process(LeaseEpoch(1), Arc::new(|| Duration::ZERO)),
            directory: InProcessDirectory::default(),
            zones,
        }
    }

    /// A front's context; zone 0 is where players begin.
    pub fn context(&self, instance: &str, config: FrontConfig, local: &[&Zone]) -> FrontContext {
        let zones = (0..self.zones).map(|zone| ZoneSummary {
            id: ZoneId(zone),
            name: format!("zone {zone}"),
            area: Rectangle {
                min: [f32::from(zone) * ZONE_M, 0.0],
                max: [f32::from(zone + 1) * ZONE_M, ZONE_M],
            },
        });
        let bus = self.bus.clone();
        FrontContext {
            config,
            instance: instance.to_owned(),
            key: key(),
            clock: TickClock::new(Instant::now(), Tick(0), TickRate::default()),
            world: WorldSummary {
                name: "test".to_owned(),
                tick_rate_hz: 60,
                walk_speed_mps: 4.5,
                zones: zones.collect(),
                entrances: vec![ZoneId(0)],
            },
            local: local.iter().map(|zone| zone.local()).collect(),
            positions: Arc::new(move |zone| bus.positions(zone)),
            directory: Some(Arc::new(self.directory.clone())),
        }
    }

    /// Lists a zone until what is returned is dropped.
    pub fn announce(&self, zone: u16, lease: u64, instance: &str, public: Option<SocketAddr>) -> Box<dyn Announcement> {
        let kind = ServiceKind::Zone {
            zone: ZoneId(zone),
            lease: LeaseEpoch(lease),
        };
        let service = Service {
            kind,
            instance: instance.to_owned(),
            fabric: None,
            public,
            admin: None,
            load: 0,
            detail: ServiceDetail {
                entities: 5,
                ..ServiceDetail::default()
            },
        };
        self.directory.announce(service).unwrap()
    }
}

/// A front that serves until it is dropped.
pub struct Front {
    pub address: SocketAddr,
    pub stop: Shutdown,
    pub serving: JoinHandle<anyhow::Result<()>>,
}

impl Front {
    pub fn start(context: FrontContext) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Shutdown::new();
        let serving = tokio::spawn(serve(listener, context, stop.clone()));
        Self { address, stop, serving }
    }

    /// One front of one zone.
    pub fn of(world: &World, config: FrontConfig, zone: &Zone) -> Self {
        Self::start(world.context("one", config, &[zone]))
    }

    pub async fn client(&self) -> Client {
        GameServerClient::new(self.channel().await)
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// For how long a token is good.
const TOKEN_EXPIRY_S: u32 = 600;

/// A player and what it shows of itself.
#[derive(Clone)]
pub struct Player {
    pub id: PlayerId,
    authorization: Option<String>,
}

impl Player {
    pub fn new(id: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self::with(id, Some(bearer(id, &key(), now)))
    }

    /// Players whose tokens are not good, and why.
    pub fn strangers(id: u64) -> Vec<(&'static str, Self)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let yesterday = now - Duration::from_secs(86_400);
        let shown = [
            ("none", None),
            ("no scheme", Some("token".to_owned())),
            ("garbage", Some(format!("Bearer {}", "x".repeat(80)))),
            ("expired", Some(bearer(id, &key(), yesterday))),
            ("of another key", Some(bearer(id, &SecretKey::from([8; 32]), now))),
        ];
        shown.map(|(what, shown)| (what, Self::with(id, shown))).into()
    }

    fn with(id: u64, authorization: Option<String>) -> Self {
        Self {
            id: PlayerId(id),
            authorization,
        }
    }

    /// A request in its name.
    pub fn asks<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request
                .metadata_mut()
                .insert(AUTHORIZATION, authorization.parse().unwrap());
        }
        request
    }

    pub async fn join(&self, client: &mut Client) -> Result<ZoneId, Status> {
        let joined = client.join(self.asks(JoinRequest {})).await?.into_inner();
        Ok(ZoneId(joined.position.unwrap().zone_id as u16))
    }

    pub async fn walk(&self, client: &mut Client) -> Result<MoveResponse, Status> {
        Ok(client.r#move(self.asks(east(1))).await?.into_inner())
    }

    pub async fn leave(&self, client: &mut Client) -> Result<(), Status> {
        client.leave(self.asks(LeaveRequest {})).await.map(drop)
    }
}

/// The metadata with a token that was given out at `given`.
fn bearer(id: u64, key: &SecretKey, given: Duration) -> String {
    let opened = TokenUserData::new(id, "Ada").unwrap();
    let seal = ResumeSeal {
        key,
        expiry_s: TOKEN_EXPIRY_S,
    };
    format!("Bearer {}", seal.seal(given, &opened).unwrap())
}

/// Walks along x.
pub fn east(ticks: u32) -> MoveRequest {
    MoveRequest {
        dx: 1.0,
        dz: 0.0,
        ticks,
        jump: false,
    }
}

/// The word that a call was refused with.
pub fn word<T: std::fmt::Debug>(refused: Result<T, Status>) -> ErrorWord {
    let status = refused.unwrap_err();
    let word = ErrorWord::of(&status).unwrap_or_else(|| panic!("{status:?} has no word"));
    assert_eq!(status.code(), word.code());
    word
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, waiting).await.is_ok(),
        "waited for: {what}"
    );
}
