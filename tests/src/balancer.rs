//! A load balancer without sticky sessions: each connection goes to the next server in turn that is alive.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::Api;

/// One address for several servers that come and go. Stops when dropped.
pub struct Balancer {
    pub api: Api,
    servers: Arc<Mutex<Vec<Option<SocketAddr>>>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// A balancer for `servers` servers, which are set later. `credential` is their owner's.
    pub async fn start(servers: usize, credential: (&'static str, String)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Api { url: format!("http://{}", listener.local_addr().unwrap()), credential };
        let servers = Arc::new(Mutex::new(vec![None; servers]));
        let task = tokio::spawn(balance(listener, Arc::clone(&servers)));
        Self { api, servers, task }
    }

    /// Sets the current address of a server.
    pub fn set(&self, server: usize, address: SocketAddr) {
        self.servers.lock().unwrap()[server] = Some(address);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn balance(listener: TcpListener, servers: Arc<Mutex<Vec<Option<SocketAddr>>>>) {
    for turn in 0.. {
        let (client, _) = listener.accept().await.unwrap();
        let mut candidates = servers.lock().unwrap().clone();
        let first = turn % candidates.len();
        candidates.rotate_left(first);
        tokio::spawn(carry(client, candidates));
    }
}

/// Forwards a connection to the first server that accepts it. It ends if no server accepts it or either side ends.
async fn carry(mut client: TcpStream, candidates: Vec<Option<SocketAddr>>) {
    for address in candidates.into_iter().flatten() {
        if let Ok(mut server) = TcpStream::connect(address).await {
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
