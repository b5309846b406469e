using System.Runtime.InteropServices;
using KernelScope.Cpu.MachineCode;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;

namespace KernelScope.Cpu;

/// <summary>The host's processor: vectors of the widest kind it has, a fixed number of threads, weights where they lie in their files.</summary>
/// <remarks>
/// Work is cut into units by shapes alone, and a unit's sums do not depend on who computes it: any number of threads gives the same bits. Another instruction set may give others.
/// Any number of threads may call it; ops run one after the other, each on all threads. Threads of a device that nobody disposed end when it is collected.
/// </remarks>
/// <example>
/// <code>
/// using var device = new CpuDevice();                      // one thread a core, products that keep float32 accuracy
/// Console.WriteLine($"{device.InstructionSet}, {device.Threads} threads");
/// using var model = Gemma2Model.Open(device, "google/gemma-2-2b");
/// </code>
/// </example>
public sealed unsafe partial class CpuDevice : HostDevice
{
    // Raised by every change of the order of a sum: files that hold results (runs, journals, checkpoints) are then not continued with other bits.
    private const int OrderOfSums = 4;

    // Rows of an element-wise op that are worth a thread's attention.
    private const int UnitElements = 16384;

    // Outputs for which every kernel is worth its while.
    private const int Wide = ProductPlan.AheadOutputs;

    private readonly WorkerPool _pool;
    private readonly KernelTable _kernels = KernelTable.Create();
    private readonly NativeScratch _packed = new();
    private readonly NativeScratch _work = new();
    private readonly NativeScratch _own = new();
    private readonly NativeScratch _counts = new();
    private readonly NativeScratch _sequences = new();
    private readonly EntryLists _lists;
    private readonly EntryLists _nearLists;
    private readonly Precision _saePrecision;
    private readonly Bf16Code? _bf16;
    private readonly CpuTraits _traits;

    /// <summary>Opens the processor as a device, and starts its threads.</summary>
    /// <param name="threads">Number of threads, the caller's included; 0: one for every core.</param>
    /// <param name="precision">Accuracy of products with a weight.</param>
    /// <param name="saePrecision">Accuracy of SAE encoders. Exact unless asked otherwise: active sets hang on thresholds.</param>
    /// <exception cref="ArgumentOutOfRangeException">Fewer than 0 or more than 1024 threads.</exception>
    public CpuDevice(int threads = 0, Precision precision = Precision.Exact, Precision saePrecision = Precision.Exact)
        : this(threads, precision, saePrecision, machineCode: true)
    {
    }

    /// <summary>For tests: without machine code, as on a machine that has none.</summary>
    internal CpuDevice(int threads, Precision precision, Precision saePrecision, bool machineCode)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(threads, 1024);
        Precision = precision;
        _saePrecision = saePrecision;
        if (machineCode && (precision == Precision.Fast || saePrecision == Precision.Fast))
            _bf16 = Bf16Code.TryCreate();
        _traits = new CpuTraits(_kernels.Lanes, _kernels.TileRows, MultipliesBf16: _bf16 is not null);
        _pool = new WorkerPool(threads == 0 ? Math.Clamp(Environment.ProcessorCount, 1, 1024) : threads);
        _lists = new EntryLists(_pool.Workers);
        _nearLists = new EntryLists(_pool.Workers);
    }

    /// <inheritdoc/>
    public override string Name => "cpu";

    /// <inheritdoc/>
    public override string Arithmetic => $"{InstructionSet} {FastProducts ?? "float32"}, sums {OrderOfSums}, SAEs {_saePrecision}";

    /// <summary>Packed matrices that it reads in the place of files' matrices.</summary>
    public PanelStore Panels { get; } = new();

    /// <inheritdoc/>
    /// <remarks>
    /// <see cref="Precision.Exact"/>: a row's results do not depend on the rows beside it, whatever the chunk or the batch; of compact panels (<c>pack</c> of bfloat16) to float32 noise.
    /// <see cref="Precision.Fast"/>: where so many rows meet a weight that it is faster, and the processor has <c>vdpbf16ps</c>, x and weights of other types are rounded to bfloat16, to nearest even,
    /// and the products are summed in float32; fewer rows are multiplied as in exact. The instruction takes numbers below the smallest normal float32 for 0 and sums in an order of its own, so other machines may give other bits.
    /// </remarks>
    public override Precision Precision { get; }

    /// <summary>How <see cref="Precision.Fast"/> multiplies many rows: <c>vdpbf16ps</c>, or <c>float32</c>, as exact does, without that instruction; null where nothing is fast.</summary>
    public string? FastProducts => Precision == Precision.Exact && _saePrecision == Precision.Exact ? null : MultipliesBf16 ? "vdpbf16ps"
        : "float32";

    /// <summary>Whether products of bfloat16 by machine code are in use.</summary>
    internal bool MultipliesBf16 => _bf16 is not null;

    /// <summary>Number of threads that compute, the caller's included.</summary>
    public int Threads => _pool.Workers;

    /// <summary>The vectors that the kernels use: <c>AVX-512</c>, <c>AVX2</c> or <c>portable</c>.</summary>
    public string InstructionSet => _kernels.Name;

    /// <summary>The kernels that multiply with matrices by how they are stored, in either precision, as <see cref="ProductPlan"/> chooses them.</summary>
    internal IReadOnlyList<(string Stored, string Exact, string Fast)> Kernels =>
    [
        Describe("[out, in]", new WeightTraits(Wide, Wide, sizeof(ushort), StoredForms.OutputsFirst, AnyFloat16: false)),
        Describe("[in, out]", new WeightTraits(Wide, Wide, sizeof(ushort), StoredForms.InputsFirst, AnyFloat16: false)),
        Describe("panels", new WeightTraits(Wide, Wide, sizeof(ushort), StoredForms.InPanels, AnyFloat16: false)),
        Describe("float16 panels", new WeightTraits(Wide, Wide, sizeof(ushort), StoredForms.InPanels, AnyFloat16: true)),
    ];

    /// <summary>The same of a weight of this kind of device; null for another's.</summary>
    internal string? KernelsOf(Weight weight, Precision precision) => weight is CpuWeight own
        ? ProductPlan.Describe(own.Traits, precision, _traits) : null;

    /// <summary>Accuracy of SAE encoders.</summary>
    internal Precision SaePrecision => _saePrecision;

    /// <inheritdoc/>
    /// <remarks>Matrices of which <see cref="Panels"/> has panels are read from those.</remarks>
    public override Weight CreateWeight(string name, params ReadOnlySpan<WeightPart> parts) => new CpuWeight(this, name, parts, Panels);

    /// <inheritdoc/>
    public override void ForEach(int units, Action<int> work)
    {
        ArgumentNullException.ThrowIfNull(work);
        using RunningOp op = Enter();
        var handle = GCHandle.Alloc(Gate.HostWork(work));
        try
        {
            _pool.Run(&HostUnit, (void*)GCHandle.ToIntPtr(handle), units);
        }
        finally
        {
            handle.Free();
        }
    }

    /// <summary>Stops the threads of a device that nobody disposed; its memory has finalizers of its own.</summary>
    ~CpuDevice() => Dispose(disposing: false);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing)
        {
            // None if the constructor threw.
            _pool?.Stop();
        }
        else
        {
            _pool.Dispose();
            _bf16?.Dispose();
            foreach (NativeScratch scratch in (ReadOnlySpan<NativeScratch>)[_packed, _work, _own, _counts, _sequences])
                scratch.Dispose();
            _lists.Dispose();
            _nearLists.Dispose();
        }

        base.Dispose(disposing);
    }

    /// <inheritdoc/>
    protected override void EmbedCore(ReadOnlySpan<int> tokens, Weight table, float scale, Mat destination)
    {
        CpuWeight weight = CpuWeight.From(table);
        RowJob job = Rows(destination, destination, scale);
        job.Parts = weight.Stored;
        fixed (int* pinned = tokens)
        {
            job.Tokens = pinned;
            Run(_kernels.Embed, &job);
        }

        GC.KeepAlive(weight);
    }

    /// <inheritdoc/>
    protected override void NormalizeCore(Mat x, float epsilon, Mat destination)
    {
        RowJob job = Rows(x, destination, epsilon);
        Run(_kernels.Normalize, &job);
    }

    /// <inheritdoc/>
    protected override void ApplyGainCore(Mat unit, Mat gain, Mat destination)
    {
        RowJob job = Rows(unit, destination, 0);
        job.Gain = HostBuffer.Pointer(gain);
        Run(_kernels.ApplyGain, &job);
    }

    /// <inheritdoc/>
    protected override void RmsNormCore(Mat x, Mat gain, float epsilon, Mat destination)
    {
        RowJob job = Rows(x, destination, epsilon);
        job.Gain = HostBuffer.Pointer(gain);
        Run(_kernels.RmsNorm, &job);
    }

    /// <inheritdoc/>
    protected override void AddNormedThenNormCore(Mat branch, Mat postGain, Mat nextGain, float epsilon, Mat resid, Mat normed)
    {
        RowJob job = Rows(branch, resid, epsilon);
        job.Gain = HostBuffer.Pointer(postGain);
        job.NextGain = HostBuffer.Pointer(nextGain);
        job.Z = HostBuffer.Pointer(normed);
        job.ZStride = normed.Stride;
        Run(_kernels.AddNormedThenNorm, &job);
    }

    /// <inheritdoc/>
    protected override void RopeCore(Mat x, int position, Mat cosSin)
    {
        RowJob job = Rows(x, x, 0);
        job.Gain = HostBuffer.Pointer(cosSin);
        job.ZStride = cosSin.Stride;
        job.HeadDim = cosSin.Columns;
        job.Position = position;
        Run(_kernels.Rope, &job);
    }

    /// <inheritdoc/>
    protected override void StoreCore(Mat k, Mat v, int position, KvLayer cache)
    {
        RowJob job = Rows(k, v, 0);
        job.Cache = Slots(cache);
        job.Position = position;
        Run(_kernels.Store, &job);
    }

    /// <inheritdoc/>
    protected override void SoftcapCore(Mat x, float cap)
    {
        RowJob job = Rows(x, x, cap);
        Run(_kernels.Softcap, &job);
    }

    /// <inheritdoc/>
    protected override void AddScaledCore(Mat x, float alpha, Mat destination)
    {
        RowJob job = Rows(x, destination, alpha);
        job.XStride = x.Rows == 1 ? 0 : x.Stride;
        job.Rows = destination.Rows;
        Run(_kernels.AddScaled, &job);
    }

    /// <inheritdoc/>
    protected override void CopyCore(Mat x, Mat destination)
    {
        RowJob job = Rows(x, destination, 0);
        Run(_kernels.Copy, &job);
    }

    private (string Stored, string Exact, string Fast) Describe(string stored, in WeightTraits weight) =>
        (stored, ProductPlan.Describe(weight, Precision.Exact, _traits), ProductPlan.Describe(weight, Precision.Fast, _traits));

    private static void HostUnit(void* argument, int unit, int worker) => ((Action<int>)GCHandle.FromIntPtr((nint)argument).Target!)(unit);

    private static RowJob Rows(Mat x, Mat y, float scalar) => new()
    {
        X = HostBuffer.Pointer(x),
        XStride = x.Stride,
        Y = HostBuffer.Pointer(y),
        YStride = y.Stride,
        Rows = y.Rows,
        Columns = y.Columns,
        Scalar = scalar,
    };

    private void Run(delegate*<void*, int, int, void> kernel, RowJob* job)
    {
        job->UnitRows = Math.Max(1, UnitElements / Math.Max(1, job->Columns));
        _pool.Run(kernel, job, Ceiling(job->Rows, job->UnitRows));
    }

    private static KvSlots Slots(KvLayer cache) => new()
    {
        Keys = (byte*)HostBuffer.Pointer(cache.Keys),
        Values = (byte*)HostBuffer.Pointer(cache.Values),
        Type = cache.Type,
        Heads = cache.KvHeadCount,
        Capacity = cache.Capacity,
        HeadDim = cache.HeadDim,
    };

    private static int Ceiling(int count, int size) => (int)(((long)count + size - 1) / size);
}
