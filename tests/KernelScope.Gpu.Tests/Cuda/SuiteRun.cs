using KernelScope.Conformance;
using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Emulated;
using KernelScope.Sae;
using KernelScope.Tests;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>
/// The op suite on emulated devices of each kind, run once for all tests that look at it. A device that differs from another in its products alone runs those.
/// </summary>
public sealed class SuiteRun
{
    /// <summary>SAE files with d_in a multiple of 8 in each dtype: they reach the tensor cores.</summary>
    private static readonly string[] Saes = ["gs-48x96", "sl-jumprelu-bf16", "sl-jumprelu-f16"];

    /// <summary>Ops whose kernels depend on the precision or on tensor cores.</summary>
    private static readonly string[] Products =
    [
        nameof(Device.Linear), nameof(Device.LinearTransposed), nameof(Device.GatedGelu), nameof(Device.CrossEntropy),
        nameof(Device.SaeEncode), nameof(Device.SaeEncodeNear), nameof(Device.Attend),
    ];

    public SuiteRun()
    {
        IReadOnlyList<ConformanceCase> all = ConformanceSuite.Cases(ConformanceScale.Tiny);
        ConformanceCase[] products = [.. all.Where(c => Products.Contains(c.Op))];
        Run("sm_80", 80, TestGpu.Strict(), all);
        Run("sm_80 fast", 80, TestGpu.Strict(Precision.Fast), products);
        Run("sm_80 without tensor cores", 80, TestGpu.Strict() with { TensorCores = false }, products);
        Run("sm_90", 90, TestGpu.Strict(), all);
        Run("sm_75", 75, TestGpu.Strict(), all);
        Run("sm_75 fast", 75, TestGpu.Strict(Precision.Fast), products);
        RunFastSaes();
    }

    /// <summary>Failed cases, each with the device's name.</summary>
    public List<string> Failures { get; } = [];

    /// <summary>Cases run.</summary>
    public int Count { get; private set; }

    /// <summary>
    /// The largest error of a feature's value under <see cref="CudaDeviceOptions.SaePrecision"/> fast, over the largest value, by file.
    /// </summary>
    public Dictionary<string, double> FastSaeErrors { get; } = [];

    /// <summary>By device, the error of every case of a product or an encoder, in their order.</summary>
    public Dictionary<string, List<double>> ProductErrors { get; } = [];

    /// <summary>Products a second of the emulator.</summary>
    public List<double> Peaks { get; } = [];

    internal TestGpu.KernelLog Log { get; } = new();

    private void Run(string name, int capability, CudaDeviceOptions options, IReadOnlyList<ConformanceCase> cases)
    {
        // On sm_90 every launch, the first of a batch too, may begin before the one before it has ended.
        EmulatedDriverOptions driver = TestGpu.Driver(capability, Log.Note) with { Launch = new() { Programmatic = capability >= 90 } };
        using CudaDevice device = EmulatedDevices.Open(options, driver);
        foreach (ConformanceCase @case in cases)
        {
            ConformanceResult result = @case.Run(device);
            Count++;
            if (@case.Op is nameof(Device.Linear) or nameof(Device.GatedGelu) or nameof(Device.SaeEncode))
                ProductErrors[name] = [.. ProductErrors.GetValueOrDefault(name, []), result.WorstError];
            if (!result.Ok)
                Failures.Add($"{name}: {result}");
        }

        // No op needs the kernels that measure the device.
        Peaks.Add(device.MeasurePeak(tensorCores: false, blocks: 1, rounds: 2));
        if (device.HasTensorCores)
            Peaks.Add(device.MeasurePeak(tensorCores: true, blocks: 1, rounds: 2));
    }

    private void RunFastSaes()
    {
        using CudaDevice device = TestGpu.Open(80, TestGpu.Strict() with { SaePrecision = Precision.Fast }, Log.Note);
        foreach (string name in Saes)
        {
            using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", name));
            using var expected = new NpzArrays(Fixtures.Path("sae", "saes", name, "expected.npz"));
            Mat x = device.CreateMat(33, sae.Config.InputDim, "x");
            using DeviceBuffer buffer = x.Buffer;
            device.Write(expected.Floats("x_33"), x);
            using SparseCodes codes = sae.CreateCodes();
            sae.Encode(x, codes);
            var list = new CodeList();
            device.Read(codes, list);
            long[] starts = expected.Int64("row_ptr_33");
            int[] features = expected.Int32("feature_33");
            float[] values = expected.Floats("value_33");
            double error = 0;
            for (int r = 0; r < 33; r++)
            {
                for (long i = starts[r]; i < starts[r + 1]; i++)
                {
                    // A feature near its threshold may have fallen below it.
                    float value = list.ValueOf(r, features[i]);
                    error = Math.Max(error, value == 0 ? 0 : Math.Abs(value - values[i]));
                }
            }

            FastSaeErrors[name] = error / values.Max();
        }
    }
}
