//! Bringing services up and down. One xtask at a time: a lock file is held throughout.

use super::state::{Running, write_env};
use super::{Place, Server, Service, all};
use crate::command::{Interrupt, Interrupted, log_file, run_logged, tail};
use crate::folders::{Folders, lock, write_whole};
use crate::process::{Identity, POLL};
use crate::terminal::err;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a started server may take to answer, on a machine that is busy.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// Another program can take the free port between our look and the server's start.
const START_TRIES: usize = 3;
/// How long `--version` may take.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// What cannot be had on this machine, and why.
pub type Failed = Vec<(&'static str, String)>;

/// What `up` achieved.
#[derive(Default)]
pub struct Up {
    /// The variables of all that is installed and running, not only of what was asked for.
    pub variables: BTreeMap<String, String>,
    /// The servers that this call started.
    pub started: Vec<&'static dyn Service>,
    /// What cannot be had on this machine, and why.
    pub failed: Failed,
}

/// Installs and starts these and what they need; what cannot be had is named in the result and the others go on. Errors:
/// interrupted, or the target folder cannot be written. On an error nothing that this call started runs on.
pub fn up(services: &[&'static dyn Service], folders: &Folders, interrupt: &Interrupt) -> Result<Up> {
    let _lock = lock(&folders.services().join("lock"), "the services")?;
    let services = with_needs(services);
    let failed = install_missing(&services, folders, interrupt)?;
    bring_all_up(services, failed, folders, interrupt)
}

/// Installs these and what they need, and starts none; answers with what cannot be had on this machine, and why. Errors as
/// [`up`].
pub fn installed(services: &[&'static dyn Service], folders: &Folders, interrupt: &Interrupt) -> Result<Failed> {
    let _lock = lock(&folders.services().join("lock"), "the services")?;
    install_missing(&with_needs(services), folders, interrupt)
}

/// As [`up`] of what has been [`installed`], but for what failed there.
pub fn up_but(
    services: &[&'static dyn Service],
    failed: Failed,
    folders: &Folders,
    interrupt: &Interrupt,
) -> Result<Up> {
    let _lock = lock(&folders.services().join("lock"), "the services")?;
    bring_all_up(with_needs(services), failed, folders, interrupt)
}

fn bring_all_up(
    services: Vec<&'static dyn Service>,
    failed: Failed,
    folders: &Folders,
    interrupt: &Interrupt,
) -> Result<Up> {
    let mut up = Up { failed, ..Up::default() };
    for service in services {
        if up.failed.iter().any(|(name, _)| *name == service.name()) {
            continue;
        }
        match bring_up(service, &up, folders, interrupt) {
            Ok(true) => up.started.push(service),
            Ok(false) => (),
            Err(error) if error.is::<Interrupted>() => {
                // Of this one a process may run already.
                end(service, folders)?;
                end_all(&up.started, folders)?;
                return Err(error);
            }
            Err(error) => up.failed.push((service.name(), format!("{error:#}"))),
        }
    }
    up.variables = refresh_env(folders)?;
    Ok(up)
}

/// Ends what is recorded as running of these services and of those that stand on them, and deletes their data.
pub fn down(services: &[&'static dyn Service], folders: &Folders) -> Result<()> {
    let _lock = lock(&folders.services().join("lock"), "the services")?;
    end_all(services, folders)
}

/// These and what they need, in the order in which they are started.
fn with_needs(services: &[&'static dyn Service]) -> Vec<&'static dyn Service> {
    let asked = |name| services.iter().any(|service| service.name() == name);
    let needed = |name| services.iter().any(|service| service.needs().contains(&name));
    all().into_iter().filter(|service| asked(service.name()) || needed(service.name())).collect()
}

/// These and what stands on them, in the order in which they are ended.
fn with_dependents(services: &[&'static dyn Service]) -> Vec<&'static dyn Service> {
    let asked = |name| services.iter().any(|service| service.name() == name);
    all()
        .into_iter()
        .rev()
        .filter(|service| asked(service.name()) || service.needs().iter().any(|n| asked(n)))
        .collect()
}

/// Whether the stamp says that exactly this package was installed and answered, and its program is there.
pub fn is_installed(service: &dyn Service, folders: &Folders) -> bool {
    let stamp = std::fs::read_to_string(folders.stamp(service.name()));
    stamp.is_ok_and(|text| text == service.package()) && service.binary(folders).is_file()
}

/// Installs what is missing, all at once: it is mostly waiting for downloads. Answers with what failed.
fn install_missing(services: &[&'static dyn Service], folders: &Folders, interrupt: &Interrupt) -> Result<Failed> {
    let missing: Vec<_> = services.iter().filter(|service| !is_installed(**service, folders)).collect();
    for service in &missing {
        // One of another version may run.
        end(**service, folders)?;
    }
    let results: Vec<_> = std::thread::scope(|scope| {
        let start =
            |service: &'static dyn Service| scope.spawn(move || (service, install(service, folders, interrupt)));
        let threads: Vec<_> = missing.iter().map(|service| start(**service)).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    interrupt.check()?;
    let mut failed = Vec::new();
    for result in results {
        match result {
            Ok((_, Ok(()))) => (),
            Ok((service, Err(error))) => failed.push((service.name(), format!("{error:#}"))),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    Ok(failed)
}

/// Whether a process was started.
fn bring_up(service: &dyn Service, up: &Up, folders: &Folders, interrupt: &Interrupt) -> Result<bool> {
    interrupt.check()?;
    if let Some((name, _)) = up.failed.iter().find(|(name, _)| service.needs().contains(name)) {
        bail!("it needs {name}");
    }
    // What it stands on is another one now, and empty.
    let stale = up.started.iter().any(|started| service.needs().contains(&started.name()));
    let mut started = false;
    for server in service.servers() {
        if let Some(running) = Running::read(folders, server.process())? {
            if !stale && running.identity.runs() && server.answers(running.port) {
                continue;
            }
            end_server(server, folders)?;
        }
        let since = Instant::now();
        if let Err(error) = start(server, folders, interrupt) {
            // Half of a service is none.
            end(service, folders)?;
            return Err(error);
        }
        err!("started {} in {:.1} s", server.process(), since.elapsed().as_secs_f64());
        started = true;
    }
    Ok(started)
}

fn install(service: &dyn Service, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
    let since = Instant::now();
    err!("installing {} ({})", service.name(), service.package());
    std::fs::create_dir_all(folders.bin()).with_context(|| format!("create {}", folders.bin().display()))?;
    service.install(folders, interrupt)?;
    let mut check = crate::command::program(service.binary(folders));
    check.args(service.version_arguments());
    let log = folders.log(&format!("{}-check", service.name()));
    run_logged(&mut check, &log, CHECK_LIMIT, interrupt).context("it was installed but does not run")?;
    write_whole(&folders.stamp(service.name()), service.package())?;
    err!("installed {} in {:.0} s", service.name(), since.elapsed().as_secs_f64());
    Ok(())
}

fn start(server: &dyn Server, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
    let mut tries = 1;
    loop {
        match start_once(server, folders, interrupt) {
            Err(error) if tries < START_TRIES && !error.is::<Interrupted>() => {
                err!("starting {} again: {error:#}", server.process());
                tries += 1;
            }
            result => return result,
        }
    }
}

fn start_once(server: &dyn Server, folders: &Folders, interrupt: &Interrupt) -> Result<()> {
    // What a crash left behind must not be served again.
    remove_data(server, folders)?;
    let place = Place::of(server, free_port()?, folders);
    std::fs::create_dir_all(&place.data).with_context(|| format!("create {}", place.data.display()))?;
    let prepared = server.prepare(&place, interrupt);
    if prepared.is_err() {
        remove_data(server, folders)?;
    }
    prepared.with_context(|| format!("prepare {}", server.process()))?;
    let log = folders.log(server.process());
    let out = log_file(&log)?;
    let err = out.try_clone().context("share the log")?;
    let mut command = server.command(&place)?;
    // A group of its own: Ctrl-C at the terminal is for xtask, which ends the server in order.
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {}", server.process()))?;
    let recorded = Identity::of(child.id()).and_then(|identity| {
        let running = Running { identity: identity.clone(), port: place.port };
        running.write(folders, server.process()).map(|()| identity)
    });
    let identity = match recorded {
        Ok(identity) => identity,
        Err(error) => {
            // Nobody could end it later. An error means that it has ended already.
            let _ = child.kill();
            return Err(error);
        }
    };
    let ready = wait_until_ready(server, &identity, place.port, interrupt);
    if ready.is_err() {
        end_server(server, folders)?;
    }
    ready.map_err(|error| match error.is::<Interrupted>() {
        true => error,
        false => error.context(format!("{}\n{}", log.display(), tail(&log))),
    })
}

fn wait_until_ready(server: &dyn Server, identity: &Identity, port: u16, interrupt: &Interrupt) -> Result<()> {
    let until = Instant::now() + READY_LIMIT;
    while Instant::now() < until {
        interrupt.check()?;
        if !identity.runs() {
            bail!("it ended at once");
        }
        if server.answers(port) {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("it did not answer within {} s", READY_LIMIT.as_secs())
}

fn end_all(services: &[&'static dyn Service], folders: &Folders) -> Result<()> {
    for service in with_dependents(services) {
        end(service, folders)?;
    }
    refresh_env(folders).map(|_| ())
}

fn end(service: &dyn Service, folders: &Folders) -> Result<()> {
    service.servers().into_iter().try_for_each(|server| end_server(server, folders))
}

/// Ends the recorded process, then forgets it: a crash in between finds the record and goes on.
fn end_server(server: &dyn Server, folders: &Folders) -> Result<()> {
    if let Some(running) = Running::read(folders, server.process())? {
        running.identity.end(server.stop_signal()).with_context(|| format!("end {}", server.process()))?;
    }
    remove_data(server, folders)
}

fn remove_data(server: &dyn Server, folders: &Folders) -> Result<()> {
    server.clean(&folders.data(server.process()))?;
    let folder = folders.run(server.process());
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("delete {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The variables of all that is installed and running, also written to the env file.
fn refresh_env(folders: &Folders) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for service in all() {
        if is_installed(service, folders) {
            variables.insert(service.variable().to_owned(), service.binary(folders).display().to_string());
        }
        for server in service.servers() {
            let running = Running::read(folders, server.process())?.filter(|running| running.identity.runs());
            if let Some(running) = running {
                let of_server = server.variables(&Place::of(server, running.port, folders));
                variables.extend(of_server.into_iter().map(|(name, value)| (name.to_owned(), value)));
            }
        }
    }
    write_env(folders, &variables)?;
    Ok(variables)
}

/// `NAME key=value ...`: the program, and what a user of a server must know.
pub fn line(service: &dyn Service, folders: &Folders) -> Result<String> {
    let mut line = format!("{} binary={}", service.name(), service.binary(folders).display());
    for server in service.servers() {
        if let Some(running) = Running::read(folders, server.process())? {
            line += &format!(" pid={}", running.identity.pid);
            for (name, value) in server.variables(&Place::of(server, running.port, folders)) {
                line += &format!(" {name}={value}");
            }
        }
    }
    Ok(line)
}

/// A loopback port that nothing listens on now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}
