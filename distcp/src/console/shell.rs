//! What every verb needs around its work: runtime, output, progress, signals, configuration.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode as ProcessExit;
use std::sync::Arc;
use std::time::Duration;

use manifest::state::StateStore;

use super::args::{GlobalArgs, PaceArgs, StoreArgs};
use super::environment::{self, Process};
use super::output::Output;
use super::progress::{Screen, Show, Ticker};
use super::{exit, logging, signals};
use crate::assemble::{self, JobSpec};
use crate::error::{Failure, Result};
use crate::exit::ExitCode;
use crate::job::{Job, Stop};
use crate::options::{CopyOptions, Limits};
use crate::progress::Progress;
use crate::run::Report;
use crate::settings::Secret;
use crate::settings::open::Opener;
use crate::store::meter::Meter;
use crate::summary::Summary;

/// Threads for file system calls, hashing and sorting; started when they are needed.
const BLOCKING_THREADS: usize = 256;
/// How long threads that still do file work may take after the verb has ended.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// The surroundings of a verb.
pub struct Shell {
    /// Options of every verb.
    pub args: GlobalArgs,
    /// What the binary runs in.
    pub process: Process,
    /// Where it prints.
    pub output: Output,
    /// Cancelled by a signal.
    pub stop: Stop,
    screen: Screen,
}

impl Shell {
    /// Starts the surroundings, runs a verb in them, prints what is left, and ends.
    pub fn run(program: &'static str, args: GlobalArgs, verb: impl AsyncFnOnce(&Shell) -> ExitCode) -> ProcessExit {
        let screen = Screen::stderr();
        match Self::start(program, args, &screen) {
            Ok((shell, runtime)) => {
                let code = runtime.block_on(async {
                    match signals::watch(shell.stop.clone(), screen) {
                        Ok(_watch) => verb(&shell).await,
                        Err(error) => {
                            shell.output.error(exit::line(
                                program,
                                "signals",
                                &format!("cannot be handled: {error}"),
                                None,
                            ));
                            ExitCode::Failed
                        }
                    }
                });
                shell.output.finish();
                runtime.shutdown_timeout(SHUTDOWN);
                exit::process(code)
            }
            Err(error) => {
                screen.line(&format!("{program}: cannot start: {error:#}"));
                exit::process(ExitCode::Failed)
            }
        }
    }

    fn start(
        program: &'static str,
        args: GlobalArgs,
        screen: &Screen,
    ) -> anyhow::Result<(Self, tokio::runtime::Runtime)> {
        use anyhow::Context as _;
        logging::start(&args, screen);
        let process = Process::read().context("the working folder cannot be read")?;
        let output = Output::new(program, &args, screen.clone()).context("no thread for the output")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .context("no threads for the work")?;
        Ok((Self { args, process, output, stop: Stop::default(), screen: screen.clone() }, runtime))
    }

    /// What places are opened by: the configuration and the variables.
    pub fn opener(&self) -> Result<Opener> {
        let settings = self.process.settings(self.args.config.as_deref())?;
        Ok(Opener { settings, environment: self.process.environment.clone(), retry: self.args.retry() })
    }

    /// What the global options, and those of every verb with two places, say of a job.
    pub fn spec(&self, source: &OsStr, target: &OsStr, pace: &PaceArgs, stores: &StoreArgs) -> JobSpec {
        let overrides = |pairs: &[(String, Secret)]| pairs.iter().cloned().collect();
        JobSpec {
            source: source.to_owned(),
            target: target.to_owned(),
            state: self.args.state.clone(),
            default_state: self.process.default_state.clone(),
            cwd: self.process.cwd.clone(),
            name: self.args.job.clone(),
            state_on_source: false,
            leased: !self.args.no_lease,
            create_state: true,
            keep_runs: self.args.keep_runs,
            options: CopyOptions::default(),
            within: None,
            source_may_be_missing: false,
            gate: None,
            looks_only: false,
            files: Vec::new(),
            limits: Limits::default(),
            speed: pace.speed(environment::time_of_day()),
            source_options: overrides(&stores.source_option),
            target_options: overrides(&stores.target_option),
            user: self.process.user.clone(),
            spool: self.process.temporary.clone(),
            stop: self.stop.clone(),
            listener: self.output.listener(),
            progress: Arc::default(),
        }
    }

    /// Assembles a job.
    pub async fn job(&self, spec: JobSpec) -> Result<Job> {
        assemble::job(spec, &self.opener()?)
    }

    /// The state folder that `--state` names, or the default one; nothing is created.
    pub fn state(&self) -> Result<Arc<dyn StateStore>> {
        self.open_state(false)
    }

    /// The same folder to write to; a local one is made when it is missing.
    pub fn state_to_write(&self) -> Result<Arc<dyn StateStore>> {
        self.open_state(true)
    }

    fn open_state(&self, create: bool) -> Result<Arc<dyn StateStore>> {
        let place = match (&self.args.state, &self.process.default_state) {
            (Some(place), _) => place.clone(),
            (None, Some(path)) => path.clone().into_os_string(),
            (None, None) => {
                return Err(Failure::usage("there is no home folder for the state").hint("name a place with --state"));
            }
        };
        self.folder(&place, create)
    }

    /// A folder of durable files at any place: a state, or a manifest.
    pub fn folder(&self, place: &OsStr, create: bool) -> Result<Arc<dyn StateStore>> {
        assemble::state(place, &self.process.cwd, create, &self.opener()?, &self.stop)
    }

    /// Assembles a job and runs `work` on it while its progress is shown. Prints how it ended, unless `work` has nothing to
    /// tell because nobody reads it any more.
    pub async fn run_job(
        &self,
        command: &'static str,
        spec: JobSpec,
        work: impl AsyncFnOnce(&Job) -> Option<Report>,
    ) -> ExitCode {
        match self.job(spec).await {
            Ok(job) => match self.shown(&job, work(&job)).await {
                Some(report) => self.output.end(&report),
                None => ExitCode::Failed,
            },
            Err(failure) => self.fail(command, failure),
        }
    }

    /// Shows the progress of a job while `work` goes on; nothing is drawn any more when this returns.
    pub async fn shown<T>(&self, job: &Job, work: impl Future<Output = T>) -> T {
        self.shown_by(job.progress.clone(), vec![job.source.meter.clone(), job.target.meter.clone()], work).await
    }

    /// As [`Shell::shown`], for work that is no job.
    pub async fn shown_by<T>(
        &self,
        progress: Arc<Progress>,
        meters: Vec<Arc<Meter>>,
        work: impl Future<Output = T>,
    ) -> T {
        let show = Show::choose(&self.args, self.process.dumb_terminal);
        let ticker = Ticker::start(show, &self.screen, progress, meters);
        let result = work.await;
        ticker.stop().await;
        result
    }

    /// The end of a verb that failed, or failed before there was a run.
    pub fn fail(&self, command: &'static str, failure: Failure) -> ExitCode {
        let mut summary = Summary::new(command, self.args.job.as_deref().unwrap_or_default());
        summary.end(failure.code);
        summary.errors.push(failure.message.clone());
        summary.hint.clone_from(&failure.hint);
        self.output.end(&Report { summary, failure: Some(failure) })
    }

    /// The JSON summary of a verb that is no run: its code, and nothing to count.
    pub fn done(&self, command: &'static str, code: ExitCode) -> ExitCode {
        if self.output.is_json() {
            let mut summary = Summary::new(command, self.args.job.as_deref().unwrap_or_default());
            summary.end(code);
            self.output.json(&summary);
        }
        code
    }

    /// The code of a verb that a signal ended.
    pub fn interruption(&self) -> ExitCode {
        match self.stop.terminated.load(std::sync::atomic::Ordering::Relaxed) {
            true => ExitCode::Terminated,
            false => ExitCode::Interrupted,
        }
    }

    /// A path as typed, below the working folder.
    pub fn path(&self, path: &std::path::Path) -> PathBuf {
        self.process.cwd.join(path)
    }
}
