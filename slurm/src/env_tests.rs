//! Environments as Slurm 22.05 really set them (four nodes, `srun` from a controller), and broken ones.

use super::*;
use proptest::prelude::*;

/// Rank 1 of `srun --mpi=pmix -N2 -n3 -c1`.
const PMIX: &[(&str, &str)] = &[
    ("PMIX_NAMESPACE", "slurm.pmix.2.0"),
    ("PMIX_RANK", "1"),
    ("SLURMD_NODENAME", "n1"),
    ("SLURM_CPUS_ON_NODE", "2"),
    ("SLURM_CPUS_PER_TASK", "1"),
    ("SLURM_DISTRIBUTION", "block"),
    ("SLURM_GTIDS", "0,1"),
    ("SLURM_JOBID", "2"),
    ("SLURM_JOB_ID", "2"),
    ("SLURM_JOB_NODELIST", "n[1-2]"),
    ("SLURM_JOB_NUM_NODES", "2"),
    ("SLURM_LAUNCH_NODE_IPADDR", "10.231.7.1"),
    ("SLURM_LOCALID", "1"),
    ("SLURM_MPI_TYPE", "pmix"),
    ("SLURM_NNODES", "2"),
    ("SLURM_NODEID", "0"),
    ("SLURM_NTASKS", "3"),
    ("SLURM_PROCID", "1"),
    ("SLURM_STEPID", "0"),
    ("SLURM_STEP_ID", "0"),
    ("SLURM_STEP_NODELIST", "n[1-2]"),
    ("SLURM_STEP_NUM_NODES", "2"),
    ("SLURM_STEP_NUM_TASKS", "3"),
    ("SLURM_STEP_TASKS_PER_NODE", "2,1"),
];

/// `PMIX` with some variables changed; an empty value removes one.
fn with(changes: &[(&str, &str)]) -> Result<Option<SlurmEnv>, SlurmError> {
    let mut all: HashMap<String, String> = PMIX.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    for (k, v) in changes {
        if v.is_empty() {
            all.remove(*k)
        } else {
            all.insert(k.to_string(), v.to_string())
        };
    }
    SlurmEnv::from_pairs(all)
}
fn env(changes: &[(&str, &str)]) -> SlurmEnv {
    with(changes).unwrap().unwrap()
}
fn step(changes: &[(&str, &str)]) -> Step {
    env(changes).step.unwrap()
}

#[test]
fn a_pmix_step() {
    let e = env(&[]);
    assert_eq!((e.job_id, e.restart_count, e.cpus_per_task, e.cpus_on_node), (2, 0, Some(1), Some(2)));
    assert_eq!((e.mem_per_node, e.mem_per_cpu, e.end_time, e.array, e.het), (None, None, None, None, None));
    let s = e.step.unwrap();
    assert_eq!((s.id, s.rank, s.size, s.local_rank, s.local_size(), s.node_name()), (0, 1, 3, 1, 2, "n1"));
    assert_eq!((s.nodes.join(" "), s.tasks_per_node.clone()), ("n1 n2".to_owned(), vec![2, 1]));
    assert_eq!((s.mpi, s.launch_address), (MpiPlugin::Pmix, Some([10, 231, 7, 1].into())));
    assert_eq!(s.rank_nodes(), Some(vec![0, 0, 1]));
}

#[test]
fn plugins() {
    let pmi2 = [("PMIX_NAMESPACE", ""), ("PMI_FD", "13"), ("PMI_RANK", "1"), ("PMI_SIZE", "3")];
    assert_eq!(step(&pmi2).mpi, MpiPlugin::Pmi2);
    assert_eq!(step(&[("PMIX_NAMESPACE", ""), ("PMIX_RANK", "")]).mpi, MpiPlugin::None);
    // prterun's own namespace says nothing about srun
    assert_eq!(step(&[("PMIX_NAMESPACE", "prterun-n1-79@1")]).mpi, MpiPlugin::None);
}

#[test]
fn a_batch_script_has_no_peers() {
    let batch = [("SLURM_STEP_ID", ""), ("SLURM_STEPID", ""), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")];
    let e = env(&batch);
    assert_eq!(e.step, None);
    assert_eq!(e.job_nodes.unwrap(), ["n1", "n2"]);
}

#[test]
fn outside_slurm() {
    assert_eq!(SlurmEnv::from_pairs([("HOME", "/root"), ("SLURM_CONF", "/etc/slurm.conf")]), Ok(None));
    assert_eq!(SlurmEnv::from_pairs::<_, String, String>([]), Ok(None));
}

#[test]
fn distributions() {
    let cyclic = [("SLURM_DISTRIBUTION", "cyclic"), ("SLURM_NODEID", "1"), ("SLURMD_NODENAME", "n2")];
    let mine = [("SLURM_GTIDS", "1"), ("SLURM_LOCALID", "0")];
    assert_eq!(step(&[&cyclic[..], &mine].concat()).rank_nodes(), Some(vec![0, 1, 0]));
    // says block, but the ranks here are not so: better no answer than a wrong one
    assert_eq!(step(&[("SLURM_GTIDS", "1,2")]).rank_nodes(), None);
    // nothing said: another rank may see it differently
    assert_eq!(step(&[("SLURM_DISTRIBUTION", "")]).rank_nodes(), None);
    let single =
        [("SLURM_DISTRIBUTION", ""), ("SLURM_STEP_TASKS_PER_NODE", "1(x2)"), ("SLURM_STEP_NUM_TASKS", "2")];
    let rest = [("SLURM_NTASKS", "2"), ("SLURM_GTIDS", "0"), ("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0")];
    assert_eq!(step(&[&single[..], &rest].concat()).rank_nodes(), Some(vec![0, 1]));
}

#[test]
fn memory_time_arrays() {
    assert_eq!(env(&[("SLURM_MEM_PER_NODE", "4096")]).memory_on_node(), Some(4 << 30));
    assert_eq!(env(&[("SLURM_MEM_PER_NODE", "4G")]).memory_on_node(), Some(4 << 30));
    assert_eq!(env(&[("SLURM_MEM_PER_NODE", "0")]).memory_on_node(), None);
    assert_eq!(env(&[("SLURM_MEM_PER_CPU", "500")]).memory_on_node(), Some(1000 << 20));
    assert_eq!(env(&[("SLURM_JOB_END_TIME", "1")]).wall_time().unwrap().left().as_secs(), 0);
    assert_eq!(env(&[("SLURM_RESTART_COUNT", "2")]).restart_count, 2);
    let e = env(&[("SLURM_ARRAY_JOB_ID", "5"), ("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_HET_SIZE", "2")]);
    assert_eq!((e.array, e.het), (Some(ArrayJob { job_id: 5, task_id: 3 }), Some(HetJob { size: 2 })));
}

#[test]
fn broken_environments_are_named() {
    for (name, value) in [
        ("SLURM_JOB_ID", "x"),
        ("SLURM_JOB_ID", "-1"),
        ("SLURM_JOBID", "3"),
        ("SLURM_PROCID", "3"),
        ("SLURM_PROCID", "2"),
        ("SLURM_PROCID", ""),
        ("SLURM_PROCID", "99999999999"),
        ("SLURM_NTASKS", "4"),
        ("SLURM_LOCALID", "2"),
        ("SLURM_NODEID", "2"),
        ("SLURM_NODEID", "1"),
        ("SLURM_STEP_NODELIST", "n[1-3]"),
        ("SLURM_STEP_NODELIST", "n[1-"),
        ("SLURM_STEP_NODELIST", ""),
        ("SLURM_STEP_TASKS_PER_NODE", "2,2"),
        ("SLURM_STEP_TASKS_PER_NODE", "3"),
        ("SLURM_STEP_TASKS_PER_NODE", "two"),
        ("SLURM_STEP_NUM_NODES", "3"),
        ("SLURM_GTIDS", "0,1,2"),
        ("SLURM_GTIDS", "0,2"),
        ("SLURM_GTIDS", "0;1"),
        ("SLURM_LAUNCH_NODE_IPADDR", "somewhere"),
        ("SLURM_MEM_PER_NODE", "much"),
        ("SLURM_MEM_PER_NODE", "99999999999999999999"),
        ("SLURM_MEM_PER_NODE", "18446744073709551615"),
        ("SLURM_JOB_END_TIME", "NONE"),
        ("SLURMD_NODENAME", "n9"),
    ] {
        let error = with(&[(name, value)]).unwrap_err();
        // Which variable to look at must be in the text, for the host list by its content.
        assert!(
            error.to_string().contains(name) || error.to_string().contains(value),
            "{name}={value}: {error}"
        );
    }
    assert!(with(&[("SLURM_MEM_PER_NODE", "5"), ("SLURM_MEM_PER_CPU", "5")]).is_err());
    assert!(with(&[("PMI_FD", "3"), ("PMI_RANK", "1")]).is_err());
    assert!(with(&[("SLURM_JOB_ID", ""), ("SLURM_JOBID", "")]).is_err());
}

proptest! {
    #[test]
    fn any_value_is_answered(which in 0..PMIX.len(), value in "[0-9n,()x\\[\\]\\-]{1,12}|\\PC{1,20}") {
        if let Ok(Some(SlurmEnv { step: Some(s), .. })) = with(&[(PMIX[which].0, &value)]) {
            prop_assert!(s.rank < s.size && !s.node_name().is_empty());
            if let Some(map) = s.rank_nodes() {
                prop_assert_eq!(map.len(), s.size as usize);
            }
        }
    }
}
