//! Times the k-means kernel alone on one thread: `kmeans_kernel FILE.npy K ITERATIONS [lloyd]`, the arguments and the
//! output of the C + MPI program, so that `run --kernel` can put the two side by side. With `lloyd` every point is scored
//! against every centroid, as the C program does; without, centroids that cannot be the nearest are left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use aeolian_kmeans_kernel::{Accum, Algorithm, Prepared, Real, pass};
use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;

/// Seconds that this thread has computed.
fn cpu_time() -> f64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as f64 + 1e-9 * t.tv_nsec as f64
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (file, k, iterations, algorithm) = match &args[..] {
        [file, k, iterations] => (file, k, iterations, Algorithm::Auto),
        [file, k, iterations, lloyd] if lloyd == "lloyd" => (file, k, iterations, Algorithm::Lloyd),
        _ => {
            eprintln!("usage: kmeans_kernel FILE.npy K ITERATIONS [lloyd]");
            std::process::exit(64);
        }
    };
    let bytes = std::fs::read(file).expect("cannot read the input");
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8_lossy(&bytes[10..header]).into_owned();
    let shape = text.split("'shape': (").nth(1).expect("no shape").split(')').next().unwrap();
    let d: usize = shape.split(',').nth(1).expect("not two-dimensional").trim().parse().unwrap();
    let (k, iterations) = (k.parse().unwrap(), iterations.parse().unwrap());
    if text.contains("<f8") {
        run::<f64>(&bytes[header..], d, k, iterations, algorithm);
    } else {
        run::<f32>(&bytes[header..], d, k, iterations, algorithm);
    }
}

fn run<T: Real>(bytes: &[u8], d: usize, k: usize, iterations: usize, algorithm: Algorithm) {
    let mut points = vec![T::ZERO; bytes.len() / size_of::<T>()];
    bytemuck::cast_slice_mut(&mut points).copy_from_slice(bytes);
    let n = points.len() / d;
    let mut mean = vec![0.0; d];
    for row in points.chunks_exact(d) {
        mean.iter_mut().zip(row).for_each(|(m, x)| *m += x.to_f64() / n as f64);
    }
    let mut centroids: Vec<f64> = points[..k * d].iter().map(|x| x.to_f64()).collect();
    let mut prepared = Prepared::<T>::new(k, d, &mean);
    let mut acc = Accum::new(k, d).with(algorithm).same_rows();
    let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..iterations {
        let (start, cpu_start) = (Instant::now(), cpu_time());
        acc.clear();
        prepared.update(&centroids);
        pass(&points, &prepared, &mut acc, None);
        for (j, &count) in acc.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            for (c, sum) in centroids[j * d..][..d].iter_mut().zip(&acc.sums[j * d..]) {
                *c = T::from_f64(sum / count as f64).to_f64();
            }
        }
        seconds.push(start.elapsed().as_secs_f64());
        cpu.push(cpu_time() - cpu_start);
    }
    // Not timed: the inertia of the final centroids, as the C program reports it.
    acc.clear();
    prepared.update(&centroids);
    pass(&points, &prepared, &mut acc, None);
    let mean = seconds.iter().sum::<f64>() / iterations as f64;
    seconds.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    println!(
        "{{\"n\":{n},\"d\":{d},\"k\":{k},\"ranks\":1,\"iterations\":{iterations},\"median\":{:.9},\"mean\":{mean:.9},\"min\":{:.9},\"cpu\":{:.9},\"inertia\":{:.17e}}}",
        seconds[iterations / 2],
        seconds[0],
        cpu[iterations / 2],
        acc.inertia
    );
}
