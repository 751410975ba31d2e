//! The emulator's handle: starts the servers and lets tests look inside.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustls::ServerConfig;

use super::counters::QueueTraffic;
use super::faults::{Fault, FaultSpec};
use super::holds::{HoldPoint, ReplyHold};
use super::plane::Shaper;
use super::seed::RouterOptions;
use super::server::{Port, Protocol, bind_local};
use super::shared::{EmulatorView, Latency, RequestRecord, Shared};
use super::store::{QueueWrite, Router};
use super::tls;

/// Describes an emulator.
#[derive(Debug, Clone)]
pub struct EmulatorOptions {
    /// The router behind the sockets.
    pub router: RouterOptions,
    /// Time each request takes.
    pub latency: Latency,
    /// IP addresses and host names in the certificate.
    pub certificate_names: Vec<String>,
    /// Connections served at the same time; further ones are closed at once.
    pub connections_max: usize,
    /// Time after which a silent connection is closed.
    pub idle_close: Duration,
}

impl Default for EmulatorOptions {
    /// Answers at once, on 127.0.0.1, with the router's own limit of 20 sessions.
    fn default() -> Self {
        Self {
            router: RouterOptions::default(),
            latency: Latency::default(),
            certificate_names: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            connections_max: 20,
            idle_close: Duration::from_secs(60),
        }
    }
}

/// Where an emulator listens; what is missing is not served.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For HTTP.
    pub http: Option<TcpListener>,
    /// For HTTPS.
    pub https: Option<TcpListener>,
    /// For the binary API in clear text.
    pub api: Option<TcpListener>,
    /// For the binary API with TLS.
    pub api_ssl: Option<TcpListener>,
}

/// A running emulated router; clones share it, and it stops when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Emulator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    ports: Mutex<Ports>,
    http_url: String,
    https_url: String,
    api_url: String,
    api_ssl_url: String,
    ca_pem: String,
}

#[derive(Debug)]
struct Ports {
    ports: Vec<Port>,
    listening: bool,
}

impl Emulator {
    /// Starts on free ports of 127.0.0.1, one for each service.
    ///
    /// # Errors
    /// A row of the options is refused, or a socket, thread or certificate cannot be made.
    pub fn start(options: &EmulatorOptions) -> anyhow::Result<Self> {
        let listeners = Listeners {
            http: Some(bind_local()?),
            https: Some(bind_local()?),
            api: Some(bind_local()?),
            api_ssl: Some(bind_local()?),
        };
        Self::start_with(options, listeners)
    }

    /// Starts with REST alone, on listeners of the caller, which may live in another network namespace.
    ///
    /// # Errors
    /// As [`Emulator::start`].
    pub fn start_on(
        options: &EmulatorOptions,
        http: Option<TcpListener>,
        https: Option<TcpListener>,
    ) -> anyhow::Result<Self> {
        Self::start_with(options, Listeners { http, https, ..Listeners::default() })
    }

    /// Starts on listeners of the caller.
    ///
    /// # Errors
    /// As [`Emulator::start`].
    pub fn start_with(options: &EmulatorOptions, listeners: Listeners) -> anyhow::Result<Self> {
        let identity = tls::identity(&options.certificate_names)?;
        let router = Router::new(&options.router)?;
        let shared = Shared::new(
            router,
            options.latency,
            options.connections_max,
            options.idle_close,
            identity.spoilt,
        );
        let port = |listener: Option<TcpListener>, protocol, tls: Option<&Arc<ServerConfig>>| {
            listener.map(|listener| Port::new(listener, protocol, tls.cloned())).transpose()
        };
        let tls = Some(&identity.config);
        let http = port(listeners.http, Protocol::Http, None)?;
        let https = port(listeners.https, Protocol::Http, tls)?;
        let api = port(listeners.api, Protocol::Api, None)?;
        let api_ssl = port(listeners.api_ssl, Protocol::Api, tls)?;
        let url = |scheme: &str, port: &Option<Port>| {
            port.as_ref().map_or_else(String::new, |port| format!("{scheme}://{}", port.address()))
        };
        let inner = Inner {
            shared: Arc::new(shared),
            http_url: url("http", &http),
            https_url: url("https", &https),
            api_url: url("http", &api),
            api_ssl_url: url("https", &api_ssl),
            ca_pem: identity.ca_pem,
            ports: Mutex::new(Ports {
                ports: [http, https, api, api_ssl].into_iter().flatten().collect(),
                listening: true,
            }),
        };
        inner.serve()?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns `https://address:port`, or nothing when HTTPS is not served.
    pub fn https_url(&self) -> String {
        self.inner.https_url.clone()
    }

    /// Returns `http://address:port`, or nothing when HTTP is not served.
    pub fn http_url(&self) -> String {
        self.inner.http_url.clone()
    }

    /// Returns where the binary API is served in clear text, as `url` of wanctl's configuration names it:
    /// `http://address:port`; nothing when it is not served.
    pub fn api_url(&self) -> String {
        self.inner.api_url.clone()
    }

    /// Returns where the binary API is served with TLS, as `url` of wanctl's configuration names it:
    /// `https://address:port`; nothing when it is not served.
    pub fn api_ssl_url(&self) -> String {
        self.inner.api_ssl_url.clone()
    }

    /// Returns the certificate of the CA that signed the server's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.inner.ca_pem
    }

    /// Returns the `max-limit` of a tree queue in bits per second; 0 is unlimited.
    pub fn max_limit_bps(&self, queue: &str) -> Option<u64> {
        self.inner.shared.view(|view| view.router.max_limit_bps(queue))
    }

    /// Returns every remembered write of `max-limit`, oldest first.
    pub fn writes(&self) -> Vec<QueueWrite> {
        self.inner.shared.view(|view| view.writes.iter().cloned().collect())
    }

    /// Returns the number of requests answered.
    pub fn request_count(&self) -> u64 {
        self.inner.shared.view(|view| view.request_count)
    }

    /// Returns the number of requests received, answered or not.
    pub fn arrived_count(&self) -> u64 {
        self.inner.shared.view(|view| view.arrived_count)
    }

    /// Returns the remembered answered requests, oldest first.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.inner.shared.view(|view| view.requests.iter().cloned().collect())
    }

    /// Changes the latency of requests whose turn has not come yet.
    pub fn set_latency(&self, latency: Latency) {
        self.inner.shared.set_latency(latency);
    }

    /// Lets a shaper of real traffic stand for a tree queue, which takes over its rate.
    ///
    /// # Errors
    /// There is no such queue, or the shaper cannot be read.
    pub fn bind(&self, queue: &str, shaper: Box<dyn Shaper>) -> anyhow::Result<()> {
        self.inner.shared.bind(queue, shaper)
    }

    /// Lets go of all shapers: they get back the rates they were found with.
    pub fn release_shapers(&self) {
        self.inner.shared.release_shapers();
    }

    /// Counts traffic of a tree queue; returns whether the queue exists.
    pub fn account(&self, queue: &str, traffic: QueueTraffic) -> bool {
        self.with_router(|router| router.account(queue, traffic))
    }

    /// Lends the router, with its clock set to now; no request is worked on meanwhile.
    ///
    /// The function must not call the emulator itself.
    pub fn with_router<R>(&self, f: impl FnOnce(&mut Router) -> R) -> R {
        self.inner.shared.with_router(f)
    }

    /// Keeps back all replies; the requests take effect and count as arrived.
    pub fn hold_replies(&self) -> ReplyHold {
        ReplyHold::new(&self.inner.shared, HoldPoint::Replies)
    }

    /// Keeps back all requests before they have any effect; they count as arrived.
    pub fn hold_requests(&self) -> ReplyHold {
        ReplyHold::new(&self.inner.shared, HoldPoint::Requests)
    }

    /// Blocks until `condition` holds; returns `false` when `timeout` passed first.
    ///
    /// The condition is looked at after every arrival, effect, answer and change of state. It
    /// must not call the emulator itself: its lock is held meanwhile.
    pub fn wait_until(
        &self,
        timeout: Duration,
        condition: impl FnMut(&EmulatorView<'_>) -> bool,
    ) -> bool {
        self.inner.shared.wait_until(timeout, condition)
    }

    /// Switches a fault on. Its `from` and `until` are not looked at.
    pub fn inject(&self, spec: impl Into<FaultSpec>) {
        let spec = spec.into();
        let fault = spec.fault;
        self.inner.shared.inject(spec);
        if fault.is_off() {
            self.inner.power_off();
        }
    }

    /// Switches a fault off again, and undoes what it changed; does nothing when it is not on.
    ///
    /// # Errors
    /// As [`Emulator::power_on`].
    pub fn mend(&self, fault: Fault) -> anyhow::Result<()> {
        let was_on = self.inner.shared.mend(fault);
        if was_on && fault.is_off() { self.inner.power_on() } else { Ok(()) }
    }

    /// Returns what `log` holds; it is written while [`Fault::LogGrowth`] is on.
    pub fn fault_log(&self) -> Vec<String> {
        self.inner.shared.fault_log()
    }

    /// Ends all connections; new ones are served.
    pub fn drop_connections(&self) {
        self.inner.shared.drop_connections();
    }

    /// Drops all connections and refuses new ones until [`Emulator::power_on`].
    ///
    /// The configuration stays; [`Router::reboot`] also zeroes counters and uptime.
    pub fn power_off(&self) {
        self.inner.power_off();
    }

    /// Serves again on the same addresses; does nothing while serving.
    ///
    /// # Errors
    /// The address was taken meanwhile, or no thread can be made.
    pub fn power_on(&self) -> anyhow::Result<()> {
        self.inner.power_on()
    }
}

impl Inner {
    fn serve(&self) -> anyhow::Result<()> {
        let cycle = self.shared.cycle();
        for port in &mut self.lock_ports().ports {
            port.serve(&self.shared, cycle).context("accept thread")?;
        }
        Ok(())
    }

    fn power_off(&self) {
        let mut ports = self.lock_ports();
        ports.listening = false;
        self.shared.cut_power();
        for port in &ports.ports {
            port.stop_listening();
        }
        for port in &mut ports.ports {
            port.join();
        }
    }

    fn power_on(&self) -> anyhow::Result<()> {
        let mut ports = self.lock_ports();
        if ports.listening {
            return Ok(());
        }
        let cycle = self.shared.cycle();
        // Also after a failure half way: the next power-off then ends what was started.
        for port in &mut ports.ports {
            port.listen_again().with_context(|| format!("listen on {}", port.address()))?;
            port.serve(&self.shared, cycle).context("accept thread")?;
        }
        ports.listening = true;
        Ok(())
    }

    fn lock_ports(&self) -> std::sync::MutexGuard<'_, Ports> {
        // Ports are changed one field at a time; a panic elsewhere does not spoil them.
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.power_off();
    }
}
