//! Noise by seed: that of torch on the CPU, so that a seed means what it means in ComfyUI.
//!
//! torch draws uniform numbers by the Mersenne Twister (Matsumoto and Nishimura 1998) and makes them normal by Box and Muller's
//! method, sixteen at a time: the first eight with the last eight.

/// A sequence of normal values.
#[derive(Debug, Clone)]
pub struct Noise {
    state: [u32; 624],
    at: usize,
}

impl Noise {
    /// Begins the sequence of a seed, of which the lower 32 bits count, as in torch.
    pub fn new(seed: u64) -> Self {
        let mut state = [seed as u32; 624];
        for i in 1..624 {
            let last = state[i - 1];
            state[i] = (last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, at: 624 }
    }

    /// `torch.randn(count)`: values of mean 0 and variance 1.
    pub fn normal(&mut self, count: usize) -> Vec<f32> {
        if count < 16 {
            return self.pairs(count);
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform()).collect();
        let whole = count / 16 * 16;
        for sixteen in values[..whole].chunks_exact_mut(16) {
            box_muller(sixteen);
        }
        if whole < count {
            // The last sixteen are drawn again, some of them for the second time.
            let last = &mut values[count - 16..];
            last.iter_mut().for_each(|v| *v = self.uniform());
            box_muller(last);
        }
        values
    }

    /// Noise for latents of four channels, `[height, width, 4]`, as ComfyUI and diffusers draw it: `torch.randn(1, 4, height,
    /// width)`, which has channels first.
    pub fn latents(&mut self, height: usize, width: usize) -> Vec<f32> {
        let (first, area) = (self.normal(4 * height * width), height * width);
        (0..4 * area).map(|i| first[i % 4 * area + i / 4]).collect()
    }

    /// Few values are made in pairs, in 64 bits.
    fn pairs(&mut self, count: usize) -> Vec<f32> {
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let (angle, u) = (self.double() * std::f64::consts::TAU, self.double());
            let radius = (-2.0 * (-u).ln_1p()).sqrt();
            values.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
        }
        values.truncate(count);
        values
    }

    fn uniform(&mut self) -> f32 {
        (self.next() & 0xff_ffff) as f32 / (1 << 24) as f32
    }

    fn double(&mut self) -> f64 {
        let (high, low) = (u64::from(self.next()), u64::from(self.next()));
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    fn next(&mut self) -> u32 {
        if self.at == 624 {
            for i in 0..624 {
                let mixed = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
                let twist = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (mixed >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}

fn box_muller(values: &mut [f32]) {
    for i in 0..8 {
        let (radius, angle) = ((-2.0 * (1.0 - values[i]).ln()).sqrt(), std::f32::consts::TAU * values[i + 8]);
        (values[i], values[i + 8]) = (radius * angle.cos(), radius * angle.sin());
    }
}
