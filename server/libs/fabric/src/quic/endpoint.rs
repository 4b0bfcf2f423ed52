//! The fabric's one UDP port of a process: accepts links for its zones, and dials those of others.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use meridian_ids::{LeaseEpoch, ZoneId};
use quinn::{ClientConfig, Endpoint, TokioRuntime, VarInt};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::clock::Clock;
use super::dial::Dialler;
use super::hello::{Party, WorldStamp, told_name};
use super::link::{CloseCode, End, Link};
use super::run::FLUSH_WAIT_MAX;
use super::serving::{LinkSource, Registry};
use super::tls::{FabricRole, FabricTls};
use super::{accept, transport};
use crate::{GatewayEnd, GatewayMessage, PeerEnd, PeerMessage, WakeFn, ZoneMessage};

/// Where a zone is, as far as is known: asked before each dial, and while a dial waits to be repeated. Must be cheap and not block.
pub type AddressFn = Arc<dyn Fn() -> Option<SocketAddr> + Send + Sync>;

/// The lease that an instance of a zone has, if it has one that it knows: asked before each dial, and while a dial waits to be repeated.
/// Must be cheap and not block.
pub type LeaseFn = Arc<dyn Fn() -> Option<LeaseEpoch> + Send + Sync>;

/// What closing waits beyond [`FLUSH_WAIT_MAX`] for peers to have heard of it: some round trips of a network of one place.
const CLOSE_WAIT_MAX: Duration = Duration::from_millis(250);

/// What an endpoint is made from.
pub struct FabricOptions {
    /// The UDP address; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Who this process is and whom it trusts.
    pub tls: FabricTls,
    /// The world that it serves.
    pub world: WorldStamp,
    /// The process's name, for the logs of others.
    pub process: String,
}

/// Why an endpoint is not there.
#[derive(Debug, thiserror::Error)]
pub enum FabricBindError {
    /// The address cannot be listened on.
    #[error("cannot listen on UDP {address}; choose a free port and an address of this machine")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// What the endpoint and its tasks share.
pub(super) struct Core {
    pub(super) endpoint: Endpoint,
    pub(super) client: ClientConfig,
    pub(super) clock: Clock,
    pub(super) world: WorldStamp,
    pub(super) process: String,
    pub(super) registry: Arc<Registry>,
    shutdown: watch::Sender<bool>,
}

impl Core {
    /// Tells when the endpoint is closed.
    pub(super) fn shutdown(&self) -> watch::Receiver<bool> {
        self.shutdown.subscribe()
    }
}

/// The fabric's port of a process. Its links end with it: at [`Self::close`] in good order, when it is dropped at once.
pub struct FabricEndpoint {
    core: Arc<Core>,
    runtime: Handle,
    local_addr: SocketAddr,
    /// Whether the certificate names the role of a zone.
    may_serve: bool,
}

impl FabricEndpoint {
    /// Listens. What goes over the network is done by tasks of `runtime`, which must have I/O and time enabled, and outlive the endpoint.
    ///
    /// # Errors
    ///
    /// [`FabricBindError::Listen`] if the address cannot be listened on.
    pub fn bind(options: FabricOptions, runtime: &Handle) -> Result<Self, FabricBindError> {
        let FabricOptions {
            listen,
            tls,
            world,
            process,
        } = options;
        let error = |source| FabricBindError::Listen {
            address: listen,
            source,
        };
        let socket = transport::socket(listen).map_err(error)?;
        let local_addr = socket.local_addr().map_err(error)?;
        let server = transport::server(&tls);
        let endpoint = {
            let _context = runtime.enter();
            Endpoint::new(transport::endpoint(), Some(server), socket, Arc::new(TokioRuntime)).map_err(error)?
        };
        let core = Arc::new(Core {
            endpoint,
            client: transport::client(&tls),
            clock: Clock::new(Instant::now()),
            world,
            process: told_name(&process),
            registry: Arc::new(Registry::default()),
            shutdown: watch::Sender::new(false),
        });
        runtime.spawn(accept::accept_all(Arc::clone(&core)));
        let runtime = runtime.clone();
        Ok(Self {
            core,
            runtime,
            local_addr,
            may_serve: tls.allows(FabricRole::Zone),
        })
    }

    /// The address it listens on, with the port that it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts links for a zone of this process while the source is held. Serving a zone again (it was started anew) ends what the
    /// former source was given.
    /// Without the role [`FabricRole::Zone`] in the process's certificate nobody will take a link to it: ask [`FabricTls::allows`] before.
    pub fn serve(&self, zone: ZoneId) -> Arc<dyn LinkSource> {
        if !self.may_serve {
            let role = FabricRole::Zone;
            tracing::error!(%zone, name = role.server_name(),
                "the certificate does not name the role of a zone: nobody will link to this one; issue a certificate with the role {role:?}");
        }
        self.core.registry.serve(zone)
    }

    /// A gateway's link to a zone, which connects by itself until it is dropped, as `gateway`: each of a zone's gateways has another name, of at
    /// most [`crate::NAME_BYTES_MAX`] bytes. `wake` is called when a message came.
    pub fn to_zone(&self, zone: ZoneId, gateway: String, address: AddressFn, wake: WakeFn) -> Box<dyn GatewayEnd> {
        let link = Link::<GatewayMessage, ZoneMessage>::new(wake);
        self.dial(Party::Gateway(gateway), zone, (address, no_lease()), &link);
        Box::new(End::dialling(link))
    }

    /// A zone's link to its neighbour `to`, which connects by itself until it is dropped. Only one of the two may dial: the other takes it
    /// from its [`LinkSource`]. Of two processes that dial as the same zone each takes the link from the other: where a zone can have a
    /// second instance use [`Self::to_peer_as`].
    pub fn to_peer(&self, from: ZoneId, to: ZoneId, address: AddressFn) -> Arc<dyn PeerEnd> {
        self.to_peer_as(from, to, address, no_lease())
    }

    /// As [`Self::to_peer`], by an instance of the zone `from` that says how new it is. Of several the neighbour keeps the link of the one with
    /// the highest lease, refuses those of lower ones (and of those that know none) while it lasts, and of two with the same lease takes the
    /// later. Who is refused tries on every few seconds, and at once when `lease` gives a higher one. A link that is there is not told of a
    /// lease that changes.
    pub fn to_peer_as(&self, from: ZoneId, to: ZoneId, address: AddressFn, lease: LeaseFn) -> Arc<dyn PeerEnd> {
        let link = Link::<PeerMessage, PeerMessage>::new(Arc::new(|| ()));
        self.dial(Party::Zone(from), to, (address, lease), &link);
        Arc::new(End::dialling(link))
    }

    fn dial<Out, In>(
        &self,
        party: Party,
        zone: ZoneId,
        (address, lease): (AddressFn, LeaseFn),
        link: &Arc<Link<Out, In>>,
    ) where
        Out: super::carried::Carried,
        In: super::carried::Carried,
    {
        let dialler = Dialler {
            core: Arc::clone(&self.core),
            link: Arc::clone(link),
            party,
            zone,
            address,
            lease,
        };
        self.runtime.spawn(dialler.run());
    }

    /// Ends all links: what is reliable and waits is sent, and peers are told. Waits for that half a second at most. Not to be
    /// called from a task of the runtime.
    pub fn close(&self) {
        // Whoever listens is told; if nobody does there is nothing to end.
        self.core.shutdown.send_replace(true);
        let (done, is_done) = mpsc::channel();
        let endpoint = self.core.endpoint.clone();
        self.runtime.spawn(async move {
            let in_order = tokio::time::timeout(FLUSH_WAIT_MAX, endpoint.wait_idle()).await;
            close_endpoint(&endpoint);
            if in_order.is_err() {
                endpoint.wait_idle().await;
            }
            // Who has waited long enough has gone.
            let _ = done.send(());
        });
        if is_done.recv_timeout(FLUSH_WAIT_MAX + CLOSE_WAIT_MAX).is_err() {
            tracing::debug!("not all peers have heard that the fabric's port is closed");
        }
    }
}

/// Of who does not say how new it is.
fn no_lease() -> LeaseFn {
    Arc::new(|| None)
}

fn close_endpoint(endpoint: &Endpoint) {
    let code = CloseCode::Shutdown;
    endpoint.close(VarInt::from_u32(code as u32), code.reason().as_bytes());
}

impl Drop for FabricEndpoint {
    fn drop(&mut self) {
        self.core.shutdown.send_replace(true);
        close_endpoint(&self.core.endpoint);
    }
}
