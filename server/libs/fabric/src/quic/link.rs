//! A link as threads that tick see it: messages go in and come out at once, whatever the connection does.

use std::sync::Arc;

use tokio::sync::watch;

use super::carried::Carried;
use super::inbox::Inbox;
use super::outbox::Outbox;
use crate::{FabricError, GatewayEnd, GatewayMessage, PeerEnd, PeerMessage, WakeFn, ZoneEnd, ZoneMessage};

/// Why a connection is closed, as the other side is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseCode {
    /// The end was dropped: a zone or gateway that stops.
    Left = 0,
    /// The hello was refused.
    Refused = 1,
    /// What came is no message.
    Malformed = 2,
    /// The same party has a newer link.
    Replaced = 3,
    /// The process stops.
    Shutdown = 4,
}

impl CloseCode {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Replaced => "replaced by a newer link",
            Self::Shutdown => "the process stops",
        }
    }
}

/// What the threads that tick and the link's task share.
pub(super) struct Link<Out: Carried, In: Carried> {
    pub(super) outbox: Arc<Outbox<Out>>,
    pub(super) inbox: Inbox<In>,
    ending: watch::Sender<Option<CloseCode>>,
}

impl<Out: Carried, In: Carried> Link<Out, In> {
    pub(super) fn new(wake: WakeFn) -> Arc<Self> {
        Arc::new(Self {
            outbox: Arc::new(Outbox::new()),
            inbox: Inbox::new(wake),
            ending: watch::Sender::new(None),
        })
    }

    /// Waits until the link is to end.
    pub(super) async fn ended(&self) -> CloseCode {
        let mut ending = self.ending.subscribe();
        let code = ending.wait_for(Option::is_some).await.ok().and_then(|code| *code);
        code.unwrap_or(CloseCode::Left)
    }
}

/// A link that can be ended by who does not know what it carries.
pub(super) trait AnyLink: Send + Sync {
    /// Ends it: what is reliable and waits is still sent, for a moment.
    fn end(&self, code: CloseCode);
    /// Whether it takes nothing in any more.
    fn is_over(&self) -> bool;
}

impl<Out: Carried, In: Carried> AnyLink for Link<Out, In> {
    fn end(&self, code: CloseCode) {
        self.outbox.end();
        self.ending.send_if_modified(|ending| {
            let is_first = ending.is_none();
            ending.get_or_insert(code);
            is_first
        });
    }

    fn is_over(&self) -> bool {
        !self.outbox.is_open()
    }
}

/// An end of a link. The link ends when it is dropped.
pub(super) struct End<Out: Carried, In: Carried> {
    link: Arc<Link<Out, In>>,
    /// It connects by itself, and so is never closed.
    is_dialling: bool,
}

impl<Out: Carried, In: Carried> End<Out, In> {
    pub(super) fn accepted(link: Arc<Link<Out, In>>) -> Self {
        let is_dialling = false;
        Self { link, is_dialling }
    }

    pub(super) fn dialling(link: Arc<Link<Out, In>>) -> Self {
        let is_dialling = true;
        Self { link, is_dialling }
    }

    fn is_over(&self) -> bool {
        !self.is_dialling && self.link.is_over() && self.link.inbox.is_empty()
    }
}

impl<Out: Carried, In: Carried> Drop for End<Out, In> {
    fn drop(&mut self) {
        self.link.end(CloseCode::Left);
    }
}

impl ZoneEnd for End<ZoneMessage, GatewayMessage> {
    fn send(&self, message: ZoneMessage) -> Result<(), FabricError> {
        self.link.outbox.send(message)
    }

    fn try_receive(&self) -> Option<GatewayMessage> {
        self.link.inbox.try_receive()
    }

    fn is_closed(&self) -> bool {
        self.is_over()
    }
}

impl GatewayEnd for End<GatewayMessage, ZoneMessage> {
    fn send(&self, message: GatewayMessage) -> Result<(), FabricError> {
        self.link.outbox.send(message)
    }

    fn try_receive(&self) -> Option<ZoneMessage> {
        self.link.inbox.try_receive()
    }

    fn is_connected(&self) -> bool {
        self.link.outbox.is_open()
    }
}

impl PeerEnd for End<PeerMessage, PeerMessage> {
    fn send(&self, message: PeerMessage) -> Result<(), FabricError> {
        self.link.outbox.send(message)
    }

    fn try_receive(&self) -> Option<PeerMessage> {
        self.link.inbox.try_receive()
    }

    fn is_closed(&self) -> bool {
        self.is_over()
    }

    fn is_connected(&self) -> bool {
        self.link.outbox.is_open()
    }
}
