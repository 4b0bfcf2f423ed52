//! Relays that can be cut: what goes through one is lost while it is, as on a network that is parted.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How often a relay looks whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// More than any datagram.
const BUFFER_BYTES: usize = 65_536;

#[derive(Default)]
struct State {
    is_cut: AtomicBool,
    is_over: AtomicBool,
}

/// A relay; it ends when dropped.
pub struct Relay {
    state: Arc<State>,
    pub address: SocketAddr,
}

impl Relay {
    /// Relays TCP connections to `target`.
    pub fn tcp(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            while !accepting.is_over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((near, _)) => relay_connection(&near, target, &accepting),
                    Err(_) => thread::sleep(LOOK_INTERVAL),
                }
            }
        });
        Self { state, address }
    }

    /// Relays datagrams to `target`, and what it answers back to who sent them.
    pub fn udp(target: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).unwrap());
        near.set_read_timeout(Some(LOOK_INTERVAL)).unwrap();
        let (address, state) = (near.local_addr().unwrap(), Arc::<State>::default());
        let relaying = Arc::clone(&state);
        thread::spawn(move || relay_datagrams(&near, target, &relaying));
        Self { state, address }
    }

    /// Loses all that goes through from now on, and tells nobody.
    pub fn cut(&self) {
        self.state.is_cut.store(true, Ordering::Relaxed);
    }

    pub fn mend(&self) {
        self.state.is_cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
    }
}

fn relay_connection(near: &TcpStream, target: SocketAddr, state: &Arc<State>) {
    let Ok(far) = TcpStream::connect(target) else { return };
    for (from, to) in [(near, &far), (&far, near)] {
        let (from, to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(state));
        // Accepted sockets of a listener that does not block do not block either.
        from.set_nonblocking(false).unwrap();
        to.set_nodelay(true).unwrap();
        from.set_read_timeout(Some(LOOK_INTERVAL)).unwrap();
        thread::spawn(move || pump(from, to, &state));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut was_cut = false;
    while !state.is_over.load(Ordering::Relaxed) {
        let is_cut = state.is_cut.load(Ordering::Relaxed);
        if was_cut && !is_cut {
            // Bytes are missing in the middle: no TCP connection outlives that.
            break;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) if !is_cut => {
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            Ok(_) => was_cut = true,
            Err(error) if is_timeout(&error) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}

fn relay_datagrams(near: &Arc<UdpSocket>, target: SocketAddr, state: &Arc<State>) {
    let mut peers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    while !state.is_over.load(Ordering::Relaxed) {
        let Ok((length, from)) = near.recv_from(&mut buffer) else {
            continue;
        };
        let far = peers
            .entry(from)
            .or_insert_with(|| answer_to(from, target, near, state));
        if !state.is_cut.load(Ordering::Relaxed) {
            let _ = far.send(&buffer[..length]);
        }
    }
}

/// A socket for one who sends, whose answers go back to it.
fn answer_to(peer: SocketAddr, target: SocketAddr, near: &Arc<UdpSocket>, state: &Arc<State>) -> Arc<UdpSocket> {
    let far = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).unwrap());
    far.connect(target).unwrap();
    far.set_read_timeout(Some(LOOK_INTERVAL)).unwrap();
    let (answering, near, state) = (Arc::clone(&far), Arc::clone(near), Arc::clone(state));
    thread::spawn(move || {
        let mut buffer = vec![0; BUFFER_BYTES];
        while !state.is_over.load(Ordering::Relaxed) {
            let Ok(length) = answering.recv(&mut buffer) else {
                continue;
            };
            if !state.is_cut.load(Ordering::Relaxed) {
                let _ = near.send_to(&buffer[..length], peer);
            }
        }
    });
    far
}
