//! A way to a server on which connections can fall silent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Passes on what comes, until its connections fall silent. Works until the process ends.
pub struct Relay {
    address: SocketAddr,
    silences: Arc<AtomicUsize>,
}

impl Relay {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, silences) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let heard = Arc::clone(&silences);
        thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
                pass_on(near.try_clone().unwrap(), far.try_clone().unwrap(), Arc::clone(&heard));
                pass_on(far, near, Arc::clone(&heard));
            }
        });
        Self { address, silences }
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Nothing gets through the connections that there are any more, and nobody is told. Those that are made from now on are not concerned.
    pub fn silence(&self) {
        self.silences.fetch_add(1, Ordering::SeqCst);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, silences: Arc<AtomicUsize>) {
    let made = silences.load(Ordering::SeqCst);
    to.set_nodelay(true).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let is_silent = silences.load(Ordering::SeqCst) != made;
            if !is_silent && to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        // Of an end nothing is heard either.
        if silences.load(Ordering::SeqCst) == made {
            let _ = to.shutdown(std::net::Shutdown::Both);
        }
    });
}
