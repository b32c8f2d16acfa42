//! The guard process itself: hears of ends, and keeps them.
//!
//! It does nothing else, so that it has nothing to wait for: no log, no runtime, no thread, no memory of others.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use socket2::{Socket, Type};

use super::book::{Book, Charge};
use super::clock;
use super::removal::Kernel;
use super::words::{LENGTH, Powers, Word};

/// Before interrupts in threads (50), after what keeps the kernel itself going (99).
const PRIORITY: libc::c_int = 90;
/// How long it may run at a time, µs: a removal takes 100.
const SPINS_MICROS: libc::rlim_t = 500_000;
/// The kernel did not take an address off: the next try.
const AGAIN: Duration = Duration::from_millis(20);
/// With tandemd gone, what has not gone by then has been dropped by its kernel lifetime.
const GIVE_UP: Duration = Duration::from_secs(4);
const NANOS: u64 = 1_000_000_000;

/// The life of a guard, on the channel that tandemd left it. Returns when tandemd is gone and the addresses are.
///
/// # Errors
/// What keeps it from being a guard: not started by tandemd, or no right to take addresses off.
pub fn run(channel: OwnedFd) -> io::Result<()> {
    let channel = Socket::from(channel);
    if channel.r#type().ok() != Some(Type::SEQPACKET) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "tandemd starts its guard by itself; there is no use in starting one",
        ));
    }
    // A terminal's Ctrl-C and Ctrl-Z are for tandemd: this one ends after it, and goes on while it is stopped.
    ignore_signals();
    channel.set_nonblocking(true)?;
    let powers = empower();
    let kernel = Kernel::open()?;
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    watch(&channel, &kernel, &timer, powers)
}

fn watch(channel: &Socket, kernel: &Kernel, timer: &OwnedFd, powers: Powers) -> io::Result<()> {
    let mut book = Book::new();
    let mut set = None;
    loop {
        // What tandemd has said before an end comes first: it may have moved that end.
        if !hear(channel, &mut book, powers) {
            return all_off(&mut book, kernel);
        }
        let now = clock::now();
        book.take_off(now, now + nanos(AGAIN), |charge| off(kernel, charge, "tandemd did not renew its lease in time"));
        if book.earliest() != set {
            set = book.earliest();
            set_timer(timer, set)?;
        }
        let mut waited = [PollFd::new(channel, PollFlags::IN), PollFd::new(timer, PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
}

/// Takes in all that was said; `false`: tandemd is gone.
fn hear(channel: &Socket, book: &mut Book, powers: Powers) -> bool {
    let mut bytes = [0; LENGTH];
    loop {
        match (&mut &*channel).read(&mut bytes) {
            Ok(0) => return false,
            Ok(length) => match Word::of(&bytes[..length]) {
                Some(Word::Hold { index, address, until }) => book.hold(Charge { index, address, until }),
                Some(Word::Forget(address)) => book.forget(address),
                // Full: tandemd does not read, so it has no use for an answer.
                Some(Word::Ask(number)) => drop(channel.send(&Word::Here(number, powers).bytes())),
                Some(Word::Here(..)) | None => {}
            },
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => return true,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn all_off(book: &mut Book, kernel: &Kernel) -> io::Result<()> {
    let give_up = clock::now() + nanos(GIVE_UP);
    loop {
        book.take_off(u64::MAX, u64::MAX, |charge| off(kernel, charge, "tandemd has ended"));
        if book.is_empty() {
            return Ok(());
        }
        if clock::now() > give_up {
            return Err(io::Error::other("gave up: see `ip address` for what is still there"));
        }
        std::thread::sleep(AGAIN);
    }
}

fn off(kernel: &Kernel, charge: &Charge, why: &str) -> bool {
    let address = charge.address;
    match kernel.remove(charge.index, address) {
        Ok(()) => {
            say(format_args!("took {address} off: {why}\n"));
            true
        }
        Err(e) => {
            say(format_args!("cannot take {address} off ({why}): {e}; trying again\n"));
            false
        }
    }
}

/// On stderr, as the log of whoever supervises tandemd has it; unsaid if that would have to be waited for.
fn say(what: std::fmt::Arguments<'_>) {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let no_time = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut ready, Some(&no_time)).is_ok_and(|n| n > 0) {
        // In one piece, and what is too long is cut. If nobody listens there is nothing to be done about it.
        let mut line = [0; 256];
        let mut rest = line.as_mut_slice();
        let _ = write!(rest, "tandemd guard: {what}");
        let left = rest.len();
        let _ = stderr.lock().write_all(&line[..line.len() - left]);
    }
}

fn set_timer(timer: &OwnedFd, at: Option<u64>) -> io::Result<()> {
    // Zero would switch it off; no end is that early.
    let at = at.unwrap_or(0);
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let at = Itimerspec { it_interval: zero, it_value: timespec(at) };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &at)?;
    Ok(())
}

fn timespec(nanos: u64) -> Timespec {
    let seconds = i64::try_from(nanos / NANOS).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanos % NANOS).expect("less than a second") }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Takes what the system permits.
#[allow(unsafe_code)]
fn empower() -> Powers {
    // A real-time process that does not come to rest stops the whole machine: the kernel ends this one first, and tandemd
    // starts another.
    let spins = libc::rlimit { rlim_cur: SPINS_MICROS, rlim_max: SPINS_MICROS };
    let first = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: all take plain integers and structs that outlive the call; they concern this process alone.
    let realtime = unsafe {
        let realtime = libc::setrlimit(libc::RLIMIT_RTTIME, &raw const spins) == 0
            && libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) == 0;
        if !realtime {
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
        realtime
    };
    // Only what is touched: the whole program would be some 100 MB in a build for debugging.
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Powers {
        realtime,
        locked: mlockall(all).is_ok(),
        spared: std::fs::write("/proc/self/oom_score_adj", "-1000").is_ok(),
    }
}

#[allow(unsafe_code)]
fn ignore_signals() {
    // SIGTTOU: `stty tostop` would stop it, for it writes to the terminal from another process group.
    for signal in
        [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTSTP, libc::SIGTTOU, libc::SIGPIPE]
    {
        // SAFETY: no handler of ours is installed; "ignore" touches no memory of the process.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}
