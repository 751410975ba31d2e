//! A router that answers everybody in one of several ways, in turn.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// It ends with the process.
pub(crate) struct Echo {
    pub(crate) port: u16,
    served: Arc<AtomicUsize>,
}

impl Echo {
    /// Serves one connection after the other with `serve`, which gets the number of the way, below `ways`.
    pub(crate) fn start(
        ways: usize,
        serve: impl Fn(TcpStream, usize) -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let way = count.fetch_add(1, Ordering::Relaxed) % ways;
                let _gone = serve(stream, way);
            }
        });
        Self { port, served }
    }

    /// Returns how many connections have come.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}
