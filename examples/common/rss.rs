//! How much memory this process has used.

/// The largest resident size of this process so far, in bytes (`VmHWM`; 0 where the system does not tell).
///
/// Not `getrusage`: its `ru_maxrss` starts with the size of whoever started us.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn sees_a_big_buffer() {
        let before = super::peak();
        let buffer = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(super::peak() >= before.max(buffer.len() as u64));
        assert!(before > 0);
    }
}
