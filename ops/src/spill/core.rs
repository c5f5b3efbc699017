//! [`Core`]: what all handles of a rank's [`Spill`](super::Spill) share: directories, requests on their way, and what they may hold.

use super::directory::{Directories, lack_of_write, no_room};
use super::disk::{Blocking, Direction, Disk, Done, Fault, Request, Trouble};
use super::error::{Lack, SpillError, SpillPlace};
use super::file::{FileState, Part};
use super::header::HEADER;
use super::options::{DiskIo, SpillOptions};
use super::report::{DirectoryReport, SpillReport};
use super::run::RunState;
use super::sigxfsz;
use super::threads::Threads;
use super::uring::Uring;
use aeolian_net::Buf;
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the file among its operator's.
    pub(super) part: usize,
    pub(super) offset: u64,
}

/// Blocks and bytes that are held for someone.
#[derive(Default)]
struct Load {
    blocks: usize,
    bytes: u64,
    peak: u64,
}

impl Load {
    fn add(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes += bytes;
        self.peak = self.peak.max(self.bytes);
    }

    fn remove(&mut self, bytes: u64) {
        self.blocks -= 1;
        self.bytes -= bytes;
    }
}

/// What a request on its way is for.
enum Flight {
    Write {
        run: Rc<RunState>,
        sequence: usize,
        /// Directories that had no room for it.
        tried: Vec<usize>,
        bytes: u64,
    },
    Read {
        /// Bytes of the allowance that it holds; `None` if someone waits for it.
        ahead: Option<u64>,
        /// Whether somebody still wants it.
        wanted: bool,
    },
}

pub(super) struct Core {
    pub(super) options: SpillOptions,
    directories: Directories,
    disk: Option<Box<dyn Disk>>,
    flights: HashMap<u64, Flight>,
    /// Reads that are done, with what they hold of the allowance.
    arrived: HashMap<u64, (Done, Option<u64>)>,
    behind: Load,
    ahead: Load,
    /// Readers that are open.
    pub(super) readers: usize,
    next_token: u64,
    next_part: u32,
    next_run: u64,
    /// Without the directories' names and the like, which [`Core::report`] adds.
    pub(super) counts: SpillReport,
    stored: Vec<u64>,
    files: Vec<u64>,
    /// For tests: what goes wrong with the next writes and reads, and whether files get a name first.
    pub(super) write_faults: VecDeque<Option<Fault>>,
    pub(super) read_faults: VecDeque<Option<Fault>>,
    pub(super) with_name: bool,
}

impl Core {
    pub(super) fn new(options: SpillOptions) -> Core {
        let n = options.directories.len();
        Core {
            directories: Directories::new(&options.directories),
            options,
            disk: None,
            flights: HashMap::new(),
            arrived: HashMap::new(),
            behind: Load::default(),
            ahead: Load::default(),
            readers: 0,
            next_token: 0,
            next_part: 0,
            next_run: 0,
            counts: SpillReport::default(),
            stored: vec![0; n],
            files: vec![0; n],
            write_faults: VecDeque::new(),
            read_faults: VecDeque::new(),
            with_name: false,
        }
    }

    pub(super) fn new_run(&mut self) -> u64 {
        self.next_run += 1;
        self.next_run
    }

    pub(super) fn report(&self) -> SpillReport {
        let directory = |(i, d): (usize, &super::directory::Directory)| DirectoryReport {
            named_by: d.named_by.clone(),
            path: d.path.to_string_lossy().into_owned(),
            file_system: d.file_system().into(),
            medium: d.medium(),
            files: self.files[i],
            stored_bytes: self.stored[i],
            full: d.full(),
            refused: d.refused(),
        };
        SpillReport {
            files: self.files.iter().sum(),
            write_behind_peak: self.behind.peak,
            read_ahead_peak: self.ahead.peak,
            io: self.disk.as_ref().map(|d| d.kind()),
            directories: self.directories.iter().enumerate().map(directory).collect(),
            ..self.counts.clone()
        }
    }

    /// Who reads and writes, for the operator.
    fn disk(&mut self, operator: &str) -> Result<&mut Box<dyn Disk>, SpillError> {
        if self.disk.is_none() {
            sigxfsz::survive();
            self.disk = Some(open_disk(&self.options, operator)?);
        }
        // Never empty here; the error is there because nothing may panic.
        self.disk.as_mut().ok_or_else(|| wait_error(operator, self.options.rank, Errno::DEADLK))
    }

    /// Waits until one more block of the operator, of so many bytes, may be written behind.
    pub(super) fn make_room(&mut self, operator: &str, bytes: u64) -> Result<(), SpillError> {
        let blocks = self.options.write_behind.max(1);
        let most = (blocks as u64).saturating_mul(self.options.block_bytes as u64);
        self.reap();
        let fits = |load: &Load| load.blocks == 0 || (load.blocks < blocks && load.bytes + bytes <= most);
        if !fits(&self.behind) {
            self.counts.write_waits += 1;
        }
        while !fits(&self.behind) {
            self.wait(operator)?;
        }
        Ok(())
    }

    /// Begins to write a block of a run, whose place is already in the run's list.
    pub(super) fn begin_write(
        &mut self,
        run: &Rc<RunState>,
        sequence: usize,
        payload: Buf,
    ) -> Result<(), SpillError> {
        self.disk(&run.file.operator)?;
        let bytes = payload.len() as u64;
        self.send_write(run, sequence, payload, Vec::new())?;
        self.behind.add(bytes);
        self.reap();
        Ok(())
    }

    /// Finds a place for a block and hands it to the disk.
    fn send_write(
        &mut self,
        run: &Rc<RunState>,
        sequence: usize,
        payload: Buf,
        tried: Vec<usize>,
    ) -> Result<(), SpillError> {
        let total = (HEADER + payload.len()) as u64;
        let place = self.place(&run.file, total, &tried)?;
        let header = run.placed(sequence, place, &self.options);
        let file = run.file.parts.borrow()[place.part].file.clone();
        self.counts.stored_now += total;
        self.counts.stored_peak = self.counts.stored_peak.max(self.counts.stored_now);
        let token = self.token();
        let request = Request {
            token,
            file,
            offset: place.offset,
            direction: Direction::Write,
            header: header.encode(&payload),
            fault: self.write_faults.pop_front().flatten(),
            payload,
        };
        let bytes = request.payload.len() as u64;
        self.flights.insert(token, Flight::Write { run: run.clone(), sequence, tried, bytes });
        self.disk(&run.file.operator)?.submit(request);
        Ok(())
    }

    /// A place for so many bytes, in a file that is opened if it must be.
    fn place(&mut self, file: &FileState, bytes: u64, tried: &[usize]) -> Result<Place, SpillError> {
        let mut parts = file.parts.borrow_mut();
        // With those in which no file could be made: bytes may be free there, and the answer is the same again.
        let mut tried = tried.to_vec();
        loop {
            let has_file = |index| parts.iter().any(|p| p.directory == index);
            let picked = self.directories.pick(bytes, &tried, has_file);
            let index = picked.map_err(|refusals| SpillError::NoRoom {
                operator: file.operator.clone(),
                rank: self.options.rank,
                wanted: bytes,
                refusals,
            })?;
            if let Some(part) = parts.iter().position(|p| p.directory == index) {
                return Ok(Place { part, offset: parts[part].take(bytes) });
            }
            let directory = self.directories.get(index);
            let place = SpillPlace {
                operator: file.operator.clone(),
                rank: self.options.rank,
                directory: directory.path.clone(),
                named_by: directory.named_by.clone(),
                file_system: directory.file_system().into(),
            };
            match Part::open(self.next_part, index, &directory.path, place.clone(), self.with_name) {
                Ok(mut part) => {
                    let offset = part.take(bytes);
                    parts.push(part);
                    self.next_part += 1;
                    self.files[index] += 1;
                    return Ok(Place { part: parts.len() - 1, offset });
                }
                Err(errno @ (Errno::MFILE | Errno::NFILE)) => {
                    return Err(SpillError::TooManyFiles {
                        place: Box::new(place),
                        limit: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
                        source: Arc::new(errno.into()),
                    });
                }
                Err(errno) if no_room(errno) => {
                    self.directories.full(index, Lack::Files, errno);
                    tried.push(index);
                }
                Err(errno) => self.directories.refuse(index, errno),
            }
        }
    }

    /// Begins to read a block of a run. One that is read ahead must fit what may be; `None` if it does not.
    pub(super) fn begin_read(
        &mut self,
        run: &RunState,
        sequence: usize,
        ahead: bool,
    ) -> Result<Option<u64>, SpillError> {
        let block = run.block(sequence);
        let held = ahead.then_some(block.stored);
        if let Some(bytes) = held {
            let most = (self.options.read_ahead as u64).saturating_mul(self.options.block_bytes as u64);
            // A disk that does it at once does nothing ahead.
            let at_once = self.disk(&run.file.operator)?.kind() == DiskIo::Blocking;
            if at_once || self.ahead.blocks >= self.options.read_ahead || self.ahead.bytes + bytes > most {
                return Ok(None);
            }
        }
        self.disk(&run.file.operator)?;
        let token = self.token();
        let request = Request {
            token,
            file: run.file.parts.borrow()[block.place.part].file.clone(),
            offset: block.place.offset,
            direction: Direction::Read,
            header: [0; HEADER],
            payload: Buf::stale(block.stored as usize),
            fault: self.read_faults.pop_front().flatten(),
        };
        if let Some(bytes) = held {
            self.ahead.add(bytes);
        }
        self.flights.insert(token, Flight::Read { ahead: held, wanted: true });
        self.disk(&run.file.operator)?.submit(request);
        Ok(Some(token))
    }

    /// Waits for a read of the operator that was begun, and gives what came, unchecked.
    pub(super) fn end_read(&mut self, operator: &str, token: u64) -> Result<Done, SpillError> {
        self.reap();
        if !self.arrived.contains_key(&token) {
            self.counts.read_waits += 1;
        }
        loop {
            if let Some((done, ahead)) = self.arrived.remove(&token) {
                if let Some(bytes) = ahead {
                    self.ahead.remove(bytes);
                }
                return Ok(done);
            }
            self.wait(operator)?;
        }
    }

    /// A read that nobody wants any more.
    pub(super) fn forget_read(&mut self, token: u64) {
        if let Some((_, Some(bytes))) = self.arrived.remove(&token) {
            self.ahead.remove(bytes);
        } else if let Some(Flight::Read { wanted, .. }) = self.flights.get_mut(&token) {
            *wanted = false;
        }
    }

    /// Gives the places of blocks back.
    pub(super) fn free(&mut self, file: &FileState, blocks: impl Iterator<Item = (Place, u64)>) {
        let mut parts = file.parts.borrow_mut();
        // A run that was written without others between is one range.
        let mut range: Option<(usize, std::ops::Range<u64>)> = None;
        for (place, stored) in blocks {
            let total = HEADER as u64 + stored;
            self.counts.stored_now -= total;
            match &mut range {
                Some((part, r)) if *part == place.part && r.end == place.offset => r.end += total,
                _ => {
                    let next = (place.part, place.offset..place.offset + total);
                    if let Some((part, r)) = range.replace(next) {
                        parts[part].free(r);
                    }
                }
            }
        }
        if let Some((part, r)) = range {
            parts[part].free(r);
        }
    }

    /// Takes in what is done, without waiting.
    pub(super) fn reap(&mut self) {
        while let Some(done) = self.disk.as_mut().and_then(|d| d.poll()) {
            self.ended(done);
        }
    }

    /// Waits, for the operator, for something to be done.
    pub(super) fn wait(&mut self, operator: &str) -> Result<(), SpillError> {
        let rank = self.options.rank;
        let done = self.disk(operator)?.wait().map_err(|errno| wait_error(operator, rank, errno))?;
        self.ended(done);
        Ok(())
    }

    fn ended(&mut self, done: Done) {
        match self.flights.remove(&done.request.token) {
            Some(Flight::Write { run, sequence, tried, bytes }) => {
                self.written(done, &run, sequence, tried, bytes)
            }
            Some(Flight::Read { ahead, wanted: true }) => {
                self.arrived.insert(done.request.token, (done, ahead));
            }
            Some(Flight::Read { ahead: Some(bytes), wanted: false }) => self.ahead.remove(bytes),
            Some(Flight::Read { ahead: None, wanted: false }) | None => {}
        }
    }

    /// A block was written, or not.
    fn written(
        &mut self,
        done: Done,
        run: &Rc<RunState>,
        sequence: usize,
        mut tried: Vec<usize>,
        bytes: u64,
    ) {
        let block = run.block(sequence);
        let total = done.request.total();
        let part = block.place.part;
        let directory = run.file.parts.borrow()[part].directory;
        let error = match done.outcome {
            Ok(()) => {
                self.behind.remove(bytes);
                self.counts.blocks_written += 1;
                self.counts.bytes_written += block.raw;
                *self.counts.operators.entry(run.file.operator.clone()).or_default() += block.raw;
                self.counts.stored_bytes += total;
                self.stored[directory] += total;
                if run.landed(sequence) {
                    self.free(&run.file, std::iter::once((block.place, block.stored)));
                }
                return;
            }
            Err(Trouble::Os(errno)) if no_room(errno) && !run.abandoned() => {
                let lack = lack_of_write(errno, block.place.offset + total);
                self.directories.full(directory, lack, errno);
                self.free(&run.file, std::iter::once((block.place, block.stored)));
                tried.push(directory);
                match self.send_write(run, sequence, done.request.payload, tried) {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(trouble) => {
                self.free(&run.file, std::iter::once((block.place, block.stored)));
                let errno = match trouble {
                    Trouble::Os(errno) => errno,
                    Trouble::End(_) => Errno::IO,
                };
                SpillError::Write {
                    place: Box::new(run.file.parts.borrow()[part].place.clone()),
                    offset: block.place.offset,
                    bytes: total,
                    source: Arc::new(errno.into()),
                }
            }
        };
        self.behind.remove(bytes);
        run.failed(sequence, error);
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

fn wait_error(operator: &str, rank: u32, errno: Errno) -> SpillError {
    SpillError::Wait { operator: operator.into(), rank, source: Arc::new(errno.into()) }
}

/// Who reads and writes, as the options and the system have it; the operator is the first that needs it.
fn open_disk(options: &SpillOptions, operator: &str) -> Result<Box<dyn Disk>, SpillError> {
    let threads = || -> Box<dyn Disk> {
        match Threads::new() {
            Ok(threads) => Box::new(threads),
            // The limit on processes is reached: slower is better than not at all.
            Err(_) => Box::new(Blocking::default()),
        }
    };
    let requests = options.write_behind.saturating_add(options.read_ahead).saturating_add(2);
    Ok(match options.io {
        DiskIo::Auto => match Uring::new(requests) {
            Ok(ring) => Box::new(ring),
            Err(_) => threads(),
        },
        DiskIo::Threads => threads(),
        DiskIo::Blocking => Box::new(Blocking::default()),
        DiskIo::IoUring => match Uring::new(requests) {
            Ok(ring) => Box::new(ring),
            Err(e) => {
                return Err(SpillError::NoIoUring {
                    operator: operator.into(),
                    rank: options.rank,
                    source: Arc::new(e),
                });
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_wait_is_named() {
        let options = SpillOptions { io: DiskIo::Blocking, ..SpillOptions::from_env(0x5eed, 3) };
        let error = Core::new(options).wait("sort #1").unwrap_err().to_string();
        assert!(error.starts_with("cannot wait for the spill file of `sort #1` on rank 3: "), "{error}");
    }
}
