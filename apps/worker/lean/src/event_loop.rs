//! The one loop: timers, signals, children and descriptors, each told to the TypeScript by one call.
use crate::{child, descriptors, signals::Signals};
use rquickjs::{Ctx, Exception, Function, Object, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::convert::Infallible;
use std::os::fd::AsFd;

const SIGCHLD: i32 = 17;

/// Runs until the process ends, or an error is thrown that nobody caught.
pub fn run<'js>(ctx: &Ctx<'js>, signals: &Signals) -> Result<Infallible> {
    let callbacks: Object = ctx.globals().get("hostCallbacks")?;
    let timeout: Function = callbacks.get("timeout")?;
    let ready: Function = callbacks.get("ready")?;
    let exited: Function = callbacks.get("childExited")?;
    let signalled: Function = callbacks.get("signal")?;
    loop {
        while ctx.execute_pending_job() {}
        // Due timers run in here; below zero means that there are none.
        let wait: f64 = timeout.call(())?;
        while ctx.execute_pending_job() {}
        let (events, signal_came) = wait_for(signals, wait).map_err(|error| Exception::throw_message(ctx, &format!("poll: {error}")))?;
        if signal_came {
            let mut children = false;
            while let Some(number) = signals.next() {
                if number == SIGCHLD { children = true } else { signalled.call::<_, ()>((number,))? }
            }
            // One SIGCHLD may stand for many children.
            while children && let Some(end) = child::reap() {
                exited.call::<_, ()>((end.pid, end.code, end.signal))?;
            }
        }
        for (id, flags) in events {
            let failed = flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
            ready.call::<_, ()>((id, failed || flags.contains(PollFlags::IN), failed || flags.contains(PollFlags::OUT)))?;
        }
    }
}

type Ready = (Vec<(u32, PollFlags)>, bool);

fn wait_for(signals: &Signals, milliseconds: f64) -> rustix::io::Result<Ready> {
    descriptors::with_all(|entries| {
        let mut ids = Vec::new();
        let mut fds = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        for (id, fd, interest) in entries {
            ids.push(id);
            fds.push(PollFd::new(fd, interest));
        }
        wait(&mut fds, milliseconds)?;
        let signal_came = !fds[0].revents().is_empty();
        let events = ids.into_iter().zip(&fds[1..]).filter(|(_, fd)| !fd.revents().is_empty());
        Ok((events.map(|(id, fd)| (id, fd.revents())).collect(), signal_came))
    })
}

/// Waits until something that is to be written can be, or so long. For the end of the process, when nothing else counts.
pub fn wait_writable(milliseconds: f64) {
    descriptors::with_all(|entries| {
        let waiting = entries.filter(|(_, _, interest)| interest.contains(PollFlags::OUT));
        let mut fds: Vec<PollFd<'_>> = waiting.map(|(_, fd, _)| PollFd::new(fd, PollFlags::OUT)).collect();
        // A failure to wait only means that the next write tells more.
        let _ = wait(&mut fds, milliseconds);
    });
}

fn wait(fds: &mut [PollFd<'_>], milliseconds: f64) -> rustix::io::Result<()> {
    let limit = (milliseconds >= 0.0).then(|| Timespec {
        tv_sec: (milliseconds / 1e3) as i64,
        // Rounded up: a timer that is woken too early would spin.
        tv_nsec: (((milliseconds % 1e3) * 1e6).ceil() as i64).min(999_999_999),
    });
    match poll(fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}
