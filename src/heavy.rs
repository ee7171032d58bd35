//! Work that keeps a core busy for milliseconds: parsing and compressing large documents, looking through tarballs.
//!
//! It has threads of its own, as many as there are cores, and they yield to those that answer requests: with both at one
//! priority a small answer would wait for the system to take the core from the large work, some milliseconds each time.

use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, spawn_blocking};

/// Runs nothing but blocking work. `None` where the system gives no threads.
static THREADS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let cores = available_parallelism().map_or(1, usize::from);
    Builder::new_current_thread()
        .thread_name("heavy")
        .max_blocking_threads(cores)
        .on_thread_start(step_back)
        .build()
        .inspect_err(|error| tracing::warn!(cause = %error, "large work shares the threads of small work"))
        .ok()
});

/// Runs work to its end, also if nobody waits for it any more. It must not wait for other work of its kind.
///
/// # Errors
/// When it panicked, or the process is ending.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match &*THREADS {
        Some(threads) => threads.spawn_blocking(work).await,
        None => spawn_blocking(work).await,
    }
}

/// Lowers the priority of this thread as far as it goes: 1.5 % of a core is left to it while others want all of it.
#[cfg(target_os = "linux")]
fn step_back() {
    const LEAST: i32 = 19;
    // Of this thread alone, which is not what POSIX says and what Linux does.
    if let Err(error) = rustix::process::setpriority_process(None, LEAST) {
        tracing::debug!(cause = %error, "large work has the priority of small work");
    }
}

/// Elsewhere the call would lower that of the whole process.
#[cfg(not(target_os = "linux"))]
fn step_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_when_nobody_waits_and_a_panic_stays_there() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let unwaited = tokio::time::timeout(std::time::Duration::ZERO, run(move || sender.send(7))).await;
        assert!(unwaited.is_err() || unwaited.is_ok_and(|done| done.is_ok()));
        assert_eq!(receiver.await, Ok(7));
        assert!(run(|| panic!("on purpose")).await.unwrap_err().is_panic());
        assert_eq!(run(|| 1).await.unwrap(), 1);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn its_threads_yield_to_others() {
        let of_this_thread = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // Of what comes after the thread's name in brackets, the 17th.
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        assert_eq!(run(of_this_thread).await.unwrap(), 19);
        assert_ne!(of_this_thread(), 19);
    }
}
