//! Blocking collectives of MPI. All ranks must make the same calls in the same order with matching lengths; they wait inside MPI,
//! which does not return if a rank is gone (the launcher ends the job then).

use bytemuck::Pod;

use super::Mpi;
use super::ops::{MpiOp, MpiType};
use crate::{NetError, Result};

impl Mpi {
    /// How ranks wait in collectives: inside MPI, which most often spins (`false`, as at first: fastest), or by testing and giving
    /// the core away (`true`: where ranks outnumber cores, spinning keeps those from running that one waits for). It must
    /// be the same on all ranks, set between collectives.
    pub fn set_yielding(&self, on: bool) -> Result<()> {
        // SAFETY: ctx is live.
        self.call("setting how to wait", |ops, ctx| unsafe { (ops.yielding)(ctx, on.into()) })
    }

    /// Waits until all ranks have come here.
    pub fn barrier(&self) -> Result<()> {
        // SAFETY: ctx is live.
        self.call("MPI_Barrier", |ops, ctx| unsafe { (ops.barrier)(ctx) })
    }

    /// Gives every rank what `data` holds at `root`. `data` must have the same length everywhere; any length goes.
    pub fn bcast<T: Pod>(&self, data: &mut [T], root: u32) -> Result<()> {
        let root = self.root(root)?;
        for piece in bytemuck::cast_slice_mut::<T, u8>(data).chunks_mut(self.chunk) {
            self.call("MPI_Bcast", |ops, ctx| {
                // SAFETY: ctx is live; the piece has this many bytes.
                unsafe { (ops.bcast)(ctx, piece.as_mut_ptr().cast(), piece.len() as u64, root) }
            })?;
        }
        Ok(())
    }

    /// Collects `mine` of every rank into `all`, in rank order. `mine` must have the same length everywhere, `all` that times the
    /// number of ranks.
    pub fn allgather<T: Pod>(&self, mine: &[T], all: &mut [T]) -> Result<()> {
        if mine.len().checked_mul(self.size() as usize) != Some(all.len()) {
            return Err(NetError::Usage(format!(
                "allgather of {} elements from each of {} ranks into {} elements",
                mine.len(),
                self.size(),
                all.len()
            )));
        }
        let bytes = size_of_val(mine);
        if bytes == 0 {
            return Ok(());
        }
        if bytes <= self.chunk {
            return self.call("MPI_Allgather", |ops, ctx| {
                // SAFETY: ctx is live; mine has this many bytes and all size times as many.
                unsafe { (ops.allgather)(ctx, mine.as_ptr().cast(), bytes as u64, all.as_mut_ptr().cast()) }
            });
        }
        // Beyond what one call counts: each rank's part by broadcasts, straight into its place.
        for (root, part) in all.chunks_exact_mut(mine.len()).enumerate() {
            if root == self.rank() as usize {
                part.copy_from_slice(mine);
            }
            self.bcast(part, root as u32)?;
        }
        Ok(())
    }

    /// Combines `data` of all ranks element by element, the result being in `data` everywhere.
    pub fn allreduce_in_place<T: MpiType>(&self, data: &mut [T], op: MpiOp) -> Result<()> {
        check_op::<T>(op)?;
        for piece in data.chunks_mut(self.elements::<T>()) {
            self.call("MPI_Allreduce", |ops, ctx| {
                // SAFETY: ctx is live; NULL means in place.
                unsafe {
                    let out = piece.as_mut_ptr().cast();
                    (ops.allreduce)(ctx, std::ptr::null(), out, piece.len() as u64, T::CODE, op as i32)
                }
            })?;
        }
        Ok(())
    }

    /// Combines `data` of all ranks element by element into `out` everywhere.
    pub fn allreduce<T: MpiType>(&self, data: &[T], out: &mut [T], op: MpiOp) -> Result<()> {
        check_op::<T>(op)?;
        same_length("allreduce", data.len(), out.len())?;
        let n = self.elements::<T>();
        for (piece, out) in data.chunks(n).zip(out.chunks_mut(n)) {
            self.call("MPI_Allreduce", |ops, ctx| {
                // SAFETY: ctx is live; both have this many elements.
                unsafe {
                    let (data, out) = (piece.as_ptr().cast(), out.as_mut_ptr().cast());
                    (ops.allreduce)(ctx, data, out, piece.len() as u64, T::CODE, op as i32)
                }
            })?;
        }
        Ok(())
    }

    /// Combines `data` of all ranks element by element; the result is in `data` at `root`, other ranks keep theirs.
    pub fn reduce_in_place<T: MpiType>(&self, data: &mut [T], op: MpiOp, root: u32) -> Result<()> {
        check_op::<T>(op)?;
        let (is_root, root) = (root == self.rank(), self.root(root)?);
        for piece in data.chunks_mut(self.elements::<T>()) {
            self.call("MPI_Reduce", |ops, ctx| {
                // SAFETY: ctx is live; NULL at the root means in place, elsewhere the receive buffer is not looked at.
                unsafe {
                    let data = if is_root { std::ptr::null() } else { piece.as_ptr().cast() };
                    let out = if is_root { piece.as_mut_ptr().cast() } else { std::ptr::null_mut() };
                    (ops.reduce)(ctx, data, out, piece.len() as u64, T::CODE, op as i32, root)
                }
            })?;
        }
        Ok(())
    }

    pub(super) fn root(&self, root: u32) -> Result<i32> {
        match i32::try_from(root) {
            Ok(rank) if root < self.size() => Ok(rank),
            _ => Err(NetError::Usage(format!("root {root} is not a rank of {}", self.size()))),
        }
    }

    /// Elements of `T` that go in one call.
    fn elements<T: MpiType>(&self) -> usize {
        (self.chunk / size_of::<T>()).max(1)
    }
}

fn check_op<T: MpiType>(op: MpiOp) -> Result<()> {
    if T::FLOAT && !op.takes_floats() {
        let kind = std::any::type_name::<T>();
        return Err(NetError::Usage(format!("MPI does not define {op:?} for {kind}")));
    }
    Ok(())
}

fn same_length(what: &str, data: usize, out: usize) -> Result<()> {
    if data == out {
        return Ok(());
    }
    Err(NetError::Usage(format!("{what} of {data} elements into {out} elements")))
}
