//! What the figures were measured on, without saying whose it is: no host name, no path.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use oncekey_core::Clock;

use crate::load::Failure;
use crate::stats::Spread;

/// Cores, memory, system.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "processor unknown".to_owned());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|kib| kib.trim_end_matches(" kB").parse::<f64>().ok())
        .map_or("memory unknown".to_owned(), |kib| format!("{:.0} GiB", (kib / 1024.0 / 1024.0).ceil()));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Without what a builder appended, which may name a place.
    let kernel = release.trim().split('-').next().unwrap_or_default();
    let system = std::env::consts::OS;
    format!("{cores} cores ({model}), {memory}, {system} {kernel} {}", std::env::consts::ARCH)
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that `dir` is on.
pub(crate) fn file_system(dir: &Path) -> String {
    let unknown = || "file system unknown".to_owned();
    let Ok(dir) = dir.canonicalize() else { return unknown() };
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return unknown() };
    mount_type(&mounts, &dir).unwrap_or_else(unknown)
}

/// The type of the last mount on the longest mount point above `dir`.
fn mount_type(mounts: &str, dir: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let point = Path::new(line.split(' ').nth(4)?);
            let kind = line.split_once(" - ")?.1.split(' ').next()?;
            dir.starts_with(point).then(|| (point.components().count(), kind))
        })
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind.to_owned())
}

/// What appending 4 KiB and waiting for the disk takes, in microseconds: the floor under every commit.
pub(crate) fn fsync_micros(dir: &Path, times: usize) -> Result<Spread, Failure> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        file.seek(SeekFrom::End(0))?;
        let begun = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Spread::of(&took).ok_or("no fsync was timed")?)
}

/// CPU time in microseconds of this process or of that one, of the children that it waited for, and of those
/// that it has now.
pub(crate) fn cpu_micros(process: Option<u32>) -> Result<f64, Failure> {
    let process = process.unwrap_or_else(std::process::id);
    let mut sum = 0.0;
    for entry in fs::read_dir("/proc")?.flatten() {
        // One that ends meanwhile has no such file.
        let text = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some(stat) = Stat::of(&text) else { continue };
        if stat.process == process {
            sum += stat.own + stat.waited;
        } else if stat.parent == process {
            sum += stat.own;
        }
    }
    Ok(sum)
}

/// What /proc/N/stat says of a process; its CPU time, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Stat {
    process: u32,
    parent: u32,
    own: f64,
    /// Of the children that it waited for.
    waited: f64,
}

impl Stat {
    /// Its ticks are hundredths of a second on every Linux.
    fn of(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(')')?;
        let process = before.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let time = |at| Some((ticks(at)? + ticks(at + 1)?) * 1e4);
        Some(Self { process, parent: fields.get(1)?.parse().ok()?, own: time(11)?, waited: time(13)? })
    }
}

/// Today, in UTC.
pub(crate) fn today() -> String {
    date(Clock::system().now().as_micros() / 86_400_000_000)
}

/// The civil date of a day since 1970-01-01.
fn date(days: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut rest) = (1970, days);
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= months[month] {
        rest -= months[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, rest + 1)
}

/// The version of a package in this program's lockfile, so that no document names an older one.
pub(crate) fn version(package: &str) -> &'static str {
    let mut lines = include_str!("../Cargo.lock").lines();
    let name = format!("name = \"{package}\"");
    lines.find(|line| *line == name);
    lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"')).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        let days = [0, 58, 59, 11_016, 11_017, 19_722, 20_453, 20_788];
        let dates: Vec<String> = days.map(date).into();
        let expected = [
            "1970-01-01",
            "1970-02-28",
            "1970-03-01",
            "2000-02-29",
            "2000-03-01",
            "2023-12-31",
            "2025-12-31",
            "2026-12-01",
        ];
        assert_eq!(dates, expected);
    }

    #[test]
    fn cpu_time_is_read_whatever_the_process_is_called() {
        let text = "7 (a b) c) S 3 7 7 0 -1 4194560 1 2 3 4 25 17 2 1 20 0 1 0 5 6 7";
        assert_eq!(Stat::of(text), Some(Stat { process: 7, parent: 3, own: 420_000.0, waited: 30_000.0 }));
        assert!(cpu_micros(None).unwrap() >= 0.0);
    }

    #[test]
    fn the_nearest_mount_decides() {
        let mounts = "1 0 8:1 / / rw - ext4 disk rw\n2 1 0:5 / /tmp rw shared:1 - tmpfs tmpfs rw\n";
        let kind = |dir| mount_type(mounts, Path::new(dir));
        assert_eq!(kind("/tmp/x").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/tmpfoo").as_deref(), Some("ext4"));
        assert_eq!(mount_type("", Path::new("/")), None);
    }

    #[test]
    fn the_lockfile_names_the_peers_and_keeps_one_sqlite() {
        assert_eq!(version("idempotent"), "0.3.0");
        assert_eq!(version("sqlx-sqlite"), "0.9.0");
        assert!(version("rusqlite").starts_with("0.39."), "{}", version("rusqlite"));
        let lock = include_str!("../Cargo.lock");
        assert_eq!(lock.matches("name = \"libsqlite3-sys\"").count(), 1);
    }
}
