//! Limits of memory and CPU time of the cgroups that this process is in, versions 1 and 2, parents included.

use std::path::{Path, PathBuf};

/// A v1 limit of this much or more means "none" (the kernel shows a page less than 2^63).
const UNLIMITED: u64 = 1 << 60;

/// All finite memory limits, in bytes, with the file that each stands in. `root` is `/`; tests give recorded trees.
pub(crate) fn memory_limits(root: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for (dir, v2) in groups(root, "memory") {
        let files: &[&str] =
            if v2 { &["memory.max", "memory.high"] } else { &["memory.limit_in_bytes", "memory.stat"] };
        for file in files {
            let path = dir.join(file);
            if let Some(bytes) = limit(&text(root, &path)).filter(|&b| b < UNLIMITED) {
                found.push((format!("cgroup {}", path.display()), bytes));
            }
        }
    }
    found
}

/// The CPUs' worth of time that this process gets at most, if that is limited (docker --cpus, Kubernetes limits).
pub(crate) fn cpu_quota(root: &Path) -> Option<f64> {
    let share = |(dir, v2): (PathBuf, bool)| {
        // Microseconds of each period: "200000 100000", or "max 100000" for all; v1 has -1 for all.
        let [quota, period] = match v2 {
            true => {
                let line = text(root, &dir.join("cpu.max"));
                let (quota, period) = line.trim().split_once(' ')?;
                [quota.to_owned(), period.to_owned()]
            }
            false => ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|file| text(root, &dir.join(file))),
        };
        let number = |text: String| text.trim().parse::<f64>().ok().filter(|n| *n > 0.0);
        Some(number(quota)? / number(period)?)
    };
    groups(root, "cpu").into_iter().filter_map(share).min_by(f64::total_cmp)
}

fn text(root: &Path, path: &Path) -> String {
    std::fs::read_to_string(root.join(path.strip_prefix("/").unwrap_or(path))).unwrap_or_default()
}

/// The directories of the groups that this process is in, parents after children, and whether they are of version 2.
fn groups(root: &Path, controller: &str) -> Vec<(PathBuf, bool)> {
    let (memberships, mounts) =
        (text(root, Path::new("/proc/self/cgroup")), text(root, Path::new("/proc/self/mountinfo")));
    let mut found = Vec::new();
    for line in memberships.lines() {
        // "4:memory:/job/step" is v1; "0::/job/step" is v2.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let v2 = controllers.is_empty();
        if !v2 && !controllers.split(',').any(|c| c == controller) {
            continue;
        }
        let Some((mounted, mount_point)) = mounts.lines().find_map(|l| mount(l, v2, controller)) else {
            continue;
        };
        // In a container the mount often shows only the container's own part: the path is relative to that.
        let below = Path::new(path).strip_prefix(mounted).unwrap_or(Path::new(""));
        let top = PathBuf::from(mount_point);
        found.extend(below.ancestors().map(|ancestor| (top.join(ancestor), v2)));
    }
    found
}

/// The number in a limit file, or the effective limit (with all parents, also those out of sight) in a v1 `memory.stat`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().or_else(|| {
        text.lines()
            .find_map(|l| l.strip_prefix("hierarchical_memory_limit "))
            .and_then(|n| n.trim().parse().ok())
    })
}

/// What is mounted, and where, if this line of mountinfo is the wanted cgroup file system:
/// `35 31 0:32 /docker/1f /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory`.
fn mount<'a>(line: &'a str, v2: bool, controller: &str) -> Option<(&'a str, &'a str)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let mut kind = kind.split(' ');
    let file_system = kind.next()?;
    let options = kind.nth(1).unwrap_or("");
    let wanted = if v2 {
        file_system == "cgroup2"
    } else {
        file_system == "cgroup" && options.split(',').any(|o| o == controller)
    };
    if wanted { Some((place.next()?, place.next()?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn v2_with_parents() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/slurm/job_7/step_0\n"),
            ("proc/self/mountinfo", "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/slurm/memory.max", "max\n"),
            ("sys/fs/cgroup/slurm/job_7/memory.max", "4294967296\n"),
            ("sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n"),
            ("sys/fs/cgroup/slurm/job_7/step_0/memory.high", "5000000000\n"),
        ]);
        assert_eq!(
            memory_limits(root.path()),
            [
                ("cgroup /sys/fs/cgroup/slurm/job_7/step_0/memory.high".into(), 5_000_000_000),
                ("cgroup /sys/fs/cgroup/slurm/job_7/memory.max".into(), 4 << 30),
            ]
        );
    }

    #[test]
    fn v1_in_a_container_that_sees_only_its_part() {
        let root = tree(&[
            ("proc/self/cgroup", "5:devices:/x\n4:cpu,memory:/docker/1f\n1:name=systemd:/\n"),
            ("proc/self/mountinfo", "35 31 0:32 /docker/1f /cg/memory ro - cgroup cgroup rw,cpu,memory\n"),
            ("cg/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cg/memory/memory.stat", "cache 5\nhierarchical_memory_limit 1073741824\n"),
        ]);
        assert_eq!(memory_limits(root.path()), [("cgroup /cg/memory/memory.stat".into(), 1 << 30)]);
    }

    #[test]
    fn the_least_cpu_time_counts() {
        let v2 = tree(&[
            ("proc/self/cgroup", "0::/pod/box\n"),
            ("proc/self/mountinfo", "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/pod/cpu.max", "250000 100000\n"),
            ("sys/fs/cgroup/pod/box/cpu.max", "max 100000\n"),
        ]);
        assert_eq!(cpu_quota(v2.path()), Some(2.5));
        let v1 = |quota: &str| {
            tree(&[
                ("proc/self/cgroup", "4:cpu,cpuacct:/a\n"),
                ("proc/self/mountinfo", "35 31 0:32 / /cg/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"),
                ("cg/cpu/a/cpu.cfs_quota_us", quota),
                ("cg/cpu/a/cpu.cfs_period_us", "50000\n"),
            ])
        };
        assert_eq!(cpu_quota(v1("400000\n").path()), Some(8.0));
        assert_eq!(cpu_quota(v1("-1\n").path()), None);
        assert_eq!(cpu_quota(tree(&[]).path()), None);
    }

    #[test]
    fn nothing_there() {
        assert_eq!(memory_limits(tree(&[]).path()), []);
        assert_eq!(memory_limits(tree(&[("proc/self/cgroup", "0::\n:\nx\n")]).path()), []);
    }
}
