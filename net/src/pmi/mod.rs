//! Ranks find each other through the launcher's key-value service, without MPI.
