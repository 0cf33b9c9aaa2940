//! Feature maps.

/// Columns are padded to a multiple of this, so that kernels may always work on whole blocks.
pub const BLOCK: usize = 32;

/// A feature map, channels last, with a border of one zero pixel on each side: a 3x3 convolution reads past the edge
/// and sees the zero padding that networks are trained with.
pub struct Map<T> {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    /// Values per row, border and padding included.
    pub stride: usize,
    pub data: Vec<T>,
}

impl<T: Copy + Default> Map<T> {
    pub fn new(width: usize, height: usize, channels: usize) -> Self {
        let stride = (width.next_multiple_of(BLOCK) + 2) * channels;
        Self { width, height, channels, stride, data: vec![T::default(); stride * (height + 2)] }
    }

    /// Rows without the border above and below, each of `stride` values beginning with the left border pixel.
    pub fn rows_mut(&mut self) -> &mut [T] {
        let (stride, height) = (self.stride, self.height);
        &mut self.data[stride..stride * (height + 1)]
    }
}
