//! The bundled data: 1797 handwritten digits (see data/README.md).

use aeolian_examples::readat::ReadAt;

/// The images: 64 numbers 0..16 a line.
pub(crate) fn source() -> ReadAt {
    ReadAt::Static { bytes: include_bytes!("data/digits.csv"), name: "digits.csv (bundled)" }
}

/// The digit that each image shows.
pub(crate) fn truth() -> Vec<u8> {
    include_str!("data/digits-labels.csv").lines().filter_map(|l| l.trim().parse().ok()).collect()
}

/// Of each cluster: the digit that most of its images show, and their share.
pub(crate) fn majority(counts: &[u64]) -> Vec<(usize, f64)> {
    let of = |cluster: &[u64]| {
        let (digit, most) =
            cluster.iter().enumerate().max_by_key(|(i, n)| (**n, usize::MAX - i)).unwrap_or((0, &0));
        (digit, *most as f64 / cluster.iter().sum::<u64>().max(1) as f64)
    };
    counts.chunks(10).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_published() {
        let bytes = source().bytes(0, source().len()).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let rows: Vec<Vec<u8>> =
            text.lines().map(|l| l.split(',').map(|f| f.parse().unwrap()).collect()).collect();
        assert_eq!((rows.len(), truth().len()), (1797, 1797));
        assert!(rows.iter().all(|r| r.len() == 64 && r.iter().all(|x| *x <= 16)));
        let of_each: Vec<usize> = (0..10).map(|d| truth().iter().filter(|t| **t == d).count()).collect();
        assert_eq!(of_each, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }

    #[test]
    fn majority_of_counts() {
        assert_eq!(majority(&[0, 3, 1, 0, 0, 0, 0, 0, 0, 0]), [(1, 0.75)]);
        assert_eq!(majority(&[0; 10]), [(0, 0.0)]);
    }
}
