//! A TCP proxy that can stop passing anything on, as a network does that loses a host: nobody is told.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// Bytes that are passed on at once.
const BUFFER_BYTES: usize = 16_384;

/// A running proxy. Dropping it closes its port and its connections.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Connections that pass nothing on: as many as there were when it was told so, the first ones.
    frozen: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Proxy {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let listener = runtime.block_on(TcpListener::bind(any_port)).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, frozen) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counted = (Arc::clone(&connections), Arc::clone(&frozen));
        runtime.spawn(async move {
            let (connections, frozen) = counted;
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = TcpStream::connect(target).await.unwrap().into_split();
                tokio::spawn(pass(near_in, far_out, number, Arc::clone(&frozen)));
                tokio::spawn(pass(far_in, near_out, number, Arc::clone(&frozen)));
            }
        });
        Self {
            address,
            connections,
            frozen,
            runtime: Some(runtime),
        }
    }

    /// Connections that there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// From now on the present connections pass nothing on, and stay open; later ones do.
    pub(crate) fn freeze(&self) {
        self.frozen.store(self.connections(), Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    number: usize,
    frozen: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if number <= frozen.load(Ordering::SeqCst) {
            // Holds both ends for ever.
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}
