//! Signals to stop: from Ctrl-C, a supervisor, or a terminal that closes.

use std::{
    io,
    path::PathBuf,
    process::exit,
    sync::{Mutex, OnceLock},
};

/// The signal that stopped the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u8);

impl Signal {
    /// What a program ends with that a signal has stopped, as shells have it: 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        128 + self.0
    }
}

/// The signals that end a program, as they come in.
pub struct Signals {
    #[cfg(unix)]
    streams: Vec<(u8, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl Signals {
    /// Listens from now on, in a Tokio runtime. Signals that were ignored when the program started stay so, as `nohup` wants.
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let heard = kinds.into_iter().filter(|kind| !ignored(kind.as_raw_value()));
        let streams = heard.map(|kind| Ok((kind.as_raw_value() as u8, signal(kind)?))).collect::<io::Result<_>>()?;
        Ok(Self { streams })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            let come =
                self.streams.iter_mut().find_map(|(number, s)| s.poll_recv(context).is_ready().then_some(*number));
            come.map_or(std::task::Poll::Pending, |number| std::task::Poll::Ready(Signal(number)))
        })
        .await
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Listens from now on, in a Tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal(2),
            Err(_) => std::future::pending().await,
        }
    }
}

/// Whether the program was started with this signal ignored.
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with no new action nothing changes, and the old one is written to memory of its type; all its fields may be zero.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

static STOPPED: OnceLock<Signal> = OnceLock::new();

/// From now on the first signal is kept for [`stopped`], so that the work can end in order. The second ends the program.
pub fn watch() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::listen()?
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                let signal = signals.next().await;
                if STOPPED.set(signal).is_err() {
                    remove_unfinished();
                    exit(signal.exit_code().into());
                }
            }
        });
    })?;
    Ok(())
}

/// The signal that has come, if one has.
pub fn stopped() -> Option<Signal> {
    STOPPED.get().copied()
}

/// The temporary file that is being written.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Remembers a temporary file that must not stay should the program end at once; `None` when it is where it belongs.
pub fn set_unfinished(file: Option<PathBuf>) {
    *UNFINISHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = file;
}

/// Removes the temporary file, before the program ends at once.
pub fn remove_unfinished() {
    if let Some(file) = UNFINISHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
        let _ = std::fs::remove_file(file);
    }
}
