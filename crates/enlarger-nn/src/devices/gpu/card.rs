//! The one file that knows wgpu: cards, their memory and kernels, and work that is submitted to them.

use std::{
    fmt::{Debug, Formatter},
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::tile::Matrix;
use crate::{devices::survey::Surveyed, error::NnError};

/// A submission that takes longer is taken for a driver that hangs. Those of this crate are made to take 0.1 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// What kernels that multiply matrices need.
const MATRIX: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16).union(wgpu::Features::SUBGROUP);

/// What kind of card it is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CardKind {
    /// With memory of its own.
    Discrete,
    /// Shares the CPU's memory.
    Integrated,
    /// Of a virtual machine, or unknown.
    Other,
    /// A program that imitates a card on the CPU.
    Software,
}

/// A card that a driver offers.
#[derive(Clone)]
pub struct Adapter {
    wgpu: wgpu::Adapter,
    /// Which it is, not yet measured.
    pub is: Surveyed,
    /// With or without memory of its own.
    pub kind: CardKind,
}

impl Debug for Adapter {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {:?}", self.is, self.kind)
    }
}

impl Adapter {
    /// Asks the drivers of this machine. Takes up to half a second, and loads their libraries; without any it finds nothing.
    /// Cards come once each, by kind.
    pub fn all() -> Vec<Self> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
        descriptor.flags = wgpu::InstanceFlags::empty();
        let instance = wgpu::Instance::new(descriptor);
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        let mut adapters: Vec<Self> = adapters.into_iter().map(Self::new).collect();
        // On Windows a card is offered by Vulkan and by Direct3D.
        adapters.sort_by_key(|adapter| (adapter.kind, adapter.wgpu.get_info().backend != wgpu::Backend::Vulkan));
        let mut seen: Vec<(String, String)> = Vec::new();
        adapters.retain(|adapter| {
            let key = (adapter.is.name.clone(), adapter.is.pci.clone());
            let new = !seen.contains(&key) || adapter.wgpu.get_info().backend == wgpu::Backend::Vulkan;
            seen.push(key);
            new
        });
        number(adapters.iter_mut().map(|adapter| &mut adapter.is).collect());
        adapters
    }

    fn new(wgpu: wgpu::Adapter) -> Self {
        let info = wgpu.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => CardKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => CardKind::Integrated,
            wgpu::DeviceType::Cpu => CardKind::Software,
            wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => CardKind::Other,
        };
        let interface = match info.backend {
            wgpu::Backend::Vulkan => "Vulkan",
            wgpu::Backend::Metal => "Metal",
            wgpu::Backend::Dx12 => "Direct3D 12",
            _ => "",
        };
        let words = [interface.to_owned(), info.driver, info.driver_info];
        let driver = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
        let (memory, pci) = (Self::memory(&wgpu), info.device_pci_bus_id);
        let is = Surveyed { name: info.name, pci, driver, memory, rate: 0.0, matrix: false, unfit: None };
        Self { wgpu, is, kind }
    }

    /// Its units that multiply matrices of 16-bit floats with sums in f32, the largest of those that kernels are made for.
    pub fn matrix(&self) -> Option<Matrix> {
        use wgpu::CooperativeScalarType::{F16, F32};
        if !self.wgpu.features().contains(MATRIX) {
            return None;
        }
        let sizes = self.wgpu.cooperative_matrix_properties();
        let has = |&side: &u32| {
            sizes.iter().any(|p| [p.m_size, p.n_size, p.k_size] == [side; 3] && p.ab_type == F16 && p.cr_type == F32)
        };
        let side = [16, 8].into_iter().find(has)? as usize;
        Some(Matrix { side, threads: self.wgpu.get_info().subgroup_max_size })
    }

    /// Bytes of the card's own memory, or of what it may use of the CPU's; `None` if the driver does not say.
    #[cfg_attr(not(any(target_os = "linux", target_os = "windows")), allow(unused_variables))]
    fn memory(wgpu: &wgpu::Adapter) -> Option<u64> {
        #[cfg(any(target_os = "linux", target_os = "windows"))]
        {
            // SAFETY: the handles are only asked for properties, and both outlive the guard.
            let heaps = unsafe {
                let vulkan = wgpu.as_hal::<wgpu::hal::api::Vulkan>()?;
                let physical = vulkan.raw_physical_device();
                vulkan.shared_instance().raw_instance().get_physical_device_memory_properties(physical)
            };
            // The device-local heap (VkMemoryHeapFlagBits: 1).
            let heaps = &heaps.memory_heaps[..heaps.memory_heap_count as usize];
            heaps.iter().filter(|heap| heap.flags.as_raw() & 1 != 0).map(|heap| heap.size).max()
        }
        #[cfg(not(any(target_os = "linux", target_os = "windows")))]
        None
    }
}

/// Numbers cards of one name that have no addresses, so that each can be asked for.
fn number(mut cards: Vec<&mut Surveyed>) {
    let place = |card: &Surveyed| (card.name.clone(), card.pci.clone());
    let places: Vec<(String, String)> = cards.iter().map(|card| place(card)).collect();
    for (at, card) in cards.iter_mut().enumerate() {
        let number = places[..=at].iter().filter(|other| **other == places[at]).count();
        if places.iter().filter(|other| **other == places[at]).count() > 1 {
            card.name = format!("{} #{number}", card.name);
        }
    }
}

/// An opened card.
pub struct Card {
    device: wgpu::Device,
    queue: wgpu::Queue,
    trouble: Arc<Mutex<Trouble>>,
}

impl Debug for Card {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Card")
    }
}

/// What went wrong since the last look. A lost card stays lost.
#[derive(Default)]
struct Trouble {
    lost: Option<String>,
    error: Option<String>,
}

/// Memory of a card.
#[derive(Clone)]
pub struct Buffer(wgpu::Buffer);

impl Debug for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernel")
    }
}

/// A compiled kernel.
#[derive(Clone)]
pub struct Kernel(wgpu::ComputePipeline);

/// A kernel's buffers.
#[derive(Clone)]
pub struct Bound(wgpu::ComputePipeline, wgpu::BindGroup);

/// Work in order.
pub struct Batch(Vec<Work>);

enum Work {
    Run { bound: Bound, job: Vec<u8>, groups: [u32; 3] },
    Copy { from: wgpu::Buffer, from_at: u64, to: wgpu::Buffer, to_at: u64, bytes: u64 },
}

/// Submitted work.
#[derive(Clone)]
pub struct Ticket(wgpu::SubmissionIndex);

impl Card {
    /// Opens a card, with its units for matrices or without.
    ///
    /// # Errors
    /// [`NnError::Device`] in the driver's words.
    pub fn open(adapter: &Adapter, matrices: bool) -> Result<Self, NnError> {
        let limits = adapter.wgpu.limits();
        let features = if matrices { MATRIX } else { wgpu::Features::empty() };
        let experimental_features = if matrices {
            // SAFETY: what they compute is checked before it is used and while it is; wgpu knows of no other harm (issue 8805 is about
            // values that several invocations write, which kernels do not).
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        } else {
            wgpu::ExperimentalFeatures::disabled()
        };
        let descriptor = wgpu::DeviceDescriptor {
            required_features: wgpu::Features::IMMEDIATES | features,
            required_limits: limits,
            experimental_features,
            // Weights and maps live long and are large.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let opened = pollster::block_on(adapter.wgpu.request_device(&descriptor));
        let (device, queue) = opened.map_err(|error| NnError::Device(format!("it cannot be opened: {error}")))?;
        let trouble: Arc<Mutex<Trouble>> = Arc::default();
        let of = trouble.clone();
        device.set_device_lost_callback(move |_, message| {
            of.lock().expect("no panic under it").lost = Some(format!("it was lost: {message}"));
        });
        let of = trouble.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            of.lock().expect("no panic under it").error.get_or_insert(error.to_string());
        }));
        Ok(Self { device, queue, trouble })
    }

    /// The most bytes that a kernel sees of a buffer.
    pub fn most_bytes(&self) -> u64 {
        let limits = self.device.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
    }

    /// # Errors
    /// [`NnError::Device`] if anything went wrong since the last look, or the card is lost.
    fn check(&self) -> Result<(), NnError> {
        let mut trouble = self.trouble.lock().expect("no panic under it");
        let error = trouble.error.take();
        trouble.lost.clone().or(error).map_or(Ok(()), |what| Err(NnError::Device(what)))
    }

    /// Compiles a kernel in WGSL, whose entry is `main`.
    ///
    /// # Errors
    /// [`NnError::Device`] if the driver does not compile it.
    pub fn compile(&self, text: &str) -> Result<Kernel, NnError> {
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: None, source };
        // Kernels keep to the bounds of their buffers themselves, and their loops end. Checks at every access took half as much
        // time again on a software renderer.
        // SAFETY: indices are computed from the sizes that buffers were made with; see `kernel.rs`.
        let module =
            unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        self.check()?;
        Ok(Kernel(pipeline))
    }

    /// Memory of so many bytes.
    ///
    /// # Errors
    /// [`NnError::Device`] if there is not enough.
    pub fn buffer(&self, bytes: u64) -> Result<Buffer, NnError> {
        use wgpu::BufferUsages as Usages;
        self.allocate(bytes, Usages::STORAGE | Usages::COPY_SRC | Usages::COPY_DST)
    }

    /// Memory that results are copied to, to be [read](Self::read).
    ///
    /// # Errors
    /// As [`Self::buffer`].
    pub fn staging(&self, bytes: u64) -> Result<Buffer, NnError> {
        self.allocate(bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
    }

    fn allocate(&self, bytes: u64, usage: wgpu::BufferUsages) -> Result<Buffer, NnError> {
        let size = bytes.max(16).next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT);
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        self.check()?;
        Ok(Buffer(buffer))
    }

    /// Writes before the work that is submitted next. `at` and the length are multiples of 4.
    pub fn write(&self, to: &Buffer, at: u64, bytes: &[u8]) {
        if let Some(size) = NonZeroU64::new(bytes.len() as u64)
            && let Some(mut view) = self.queue.write_buffer_with(&to.0, at, size)
        {
            view.copy_from_slice(bytes);
        }
    }

    /// A kernel with its buffers, in the order of their bindings.
    pub fn bind(&self, kernel: &Kernel, buffers: &[(u32, &Buffer)]) -> Bound {
        let entries: Vec<wgpu::BindGroupEntry<'_>> = buffers
            .iter()
            .map(|&(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.0.as_entire_binding() })
            .collect();
        let layout = kernel.0.get_bind_group_layout(0);
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
        Bound(kernel.0.clone(), self.device.create_bind_group(&descriptor))
    }

    /// Submits work. It begins when what was submitted before has ended.
    ///
    /// # Errors
    /// [`NnError::Device`] if the card is lost or refuses it.
    pub fn submit(&self, batch: Batch) -> Result<Ticket, NnError> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut work = batch.0.into_iter().peekable();
        while let Some(next) = work.next_if(|work| matches!(work, Work::Copy { .. })) {
            copy(&mut encoder, next);
        }
        while work.peek().is_some() {
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                while let Some(Work::Run { bound, job, groups: [x, y, z] }) =
                    work.next_if(|work| matches!(work, Work::Run { .. }))
                {
                    pass.set_pipeline(&bound.0);
                    pass.set_bind_group(0, &bound.1, &[]);
                    pass.set_immediates(0, &job);
                    pass.dispatch_workgroups(x, y, z);
                }
            }
            while let Some(next) = work.next_if(|work| matches!(work, Work::Copy { .. })) {
                copy(&mut encoder, next);
            }
        }
        let ticket = self.queue.submit([encoder.finish()]);
        self.check()?;
        Ok(Ticket(ticket))
    }

    /// Waits for submitted work.
    ///
    /// # Errors
    /// [`NnError::Device`] if it fails, or takes more than 20 s.
    pub fn wait(&self, ticket: &Ticket) -> Result<(), NnError> {
        let until = wgpu::PollType::Wait { submission_index: Some(ticket.0.clone()), timeout: Some(PATIENCE) };
        if let Err(error) = self.device.poll(until) {
            let hangs = || format!("it does not answer: {error}");
            self.trouble.lock().expect("no panic under it").lost.get_or_insert_with(hangs);
        }
        self.check()
    }

    /// Hands on the first bytes of a staging buffer, once the work that was submitted to fill it is done.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn read<R>(
        &self,
        ticket: &Ticket,
        staging: &Buffer,
        bytes: u64,
        take: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, NnError> {
        let slice = staging.0.slice(..bytes);
        slice.map_async(wgpu::MapMode::Read, |_| {});
        self.wait(ticket)?;
        let view = slice.get_mapped_range().map_err(|error| NnError::Device(error.to_string()))?;
        let result = take(&view);
        drop(view);
        staging.0.unmap();
        Ok(result)
    }

    /// Whether it was lost, and has to be opened again.
    pub fn is_lost(&self) -> bool {
        self.trouble.lock().expect("no panic under it").lost.is_some()
    }

    /// Whether kernels may compute in 16-bit floats, which not all drivers can.
    #[cfg(test)]
    pub fn has_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    /// Loses the card, as a driver that crashes does.
    #[cfg(test)]
    pub fn lose(&self) {
        self.device.destroy();
    }
}

fn copy(encoder: &mut wgpu::CommandEncoder, work: Work) {
    if let Work::Copy { from, from_at, to, to_at, bytes } = work {
        encoder.copy_buffer_to_buffer(&from, from_at, &to, to_at, bytes);
    }
}

impl Batch {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Runs a kernel on so many groups of threads; `job` is what its `job` variable holds.
    pub fn run(&mut self, bound: &Bound, job: &[u8], groups: [u32; 3]) {
        self.0.push(Work::Run { bound: bound.clone(), job: job.to_vec(), groups });
    }

    /// Copies bytes, multiples of 4, between two buffers.
    pub fn copy(&mut self, from: (&Buffer, u64), to: (&Buffer, u64), bytes: u64) {
        let (from, from_at, to, to_at) = (from.0.0.clone(), from.1, to.0.0.clone(), to.1);
        self.0.push(Work::Copy { from, from_at, to, to_at, bytes });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_of_one_name_without_addresses_have_numbers() {
        let card = |name: &str, pci: &str| {
            let (name, pci, driver) = (name.to_owned(), pci.to_owned(), String::new());
            Surveyed { name, pci, driver, memory: None, rate: 0.0, matrix: false, unfit: None }
        };
        let mut cards = [card("a", ""), card("b", "1"), card("a", ""), card("b", "2"), card("c", "")];
        number(cards.iter_mut().collect());
        assert_eq!(cards.map(|card| card.name), ["a #1", "b", "a #2", "b", "c"]);
    }
}
