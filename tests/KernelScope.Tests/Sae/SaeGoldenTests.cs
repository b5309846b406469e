using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Sae;

namespace KernelScope.Tests.Sae;

/// <summary>Codes and reconstructions of every SAE file of fixtures/sae/saes against SAELens' own classes in float32.</summary>
public sealed class SaeGoldenTests
{
    /// <summary>Refused by name, as fixtures/README.md says is right; what SAELens does with each is there.</summary>
    public static readonly Dictionary<string, string> Refused = new()
    {
        ["gs-scaling-factor-other"] = "scaling_factor",
        ["gs-unknown-key"] = "notes",
        ["sl-jumprelu-expected-average"] = "expected_average_only_in",
        ["sl-jumprelu-whitening"] = "whitening",
    };

    public static TheoryData<string, string> Supported()
    {
        var data = new TheoryData<string, string>();
        foreach (string device in TestDevices.All)
        {
            foreach (string name in Names().Where(n => !Refused.ContainsKey(n)))
                data.Add(device, name);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Supported))]
    public void Codes_and_reconstruction_equal_SAELens(string deviceName, string name)
    {
        using Device device = TestDevices.Open(deviceName);
        using JumpReluSae sae = JumpReluSae.Open(device, Fixtures.Path("sae", "saes", name));
        Check(device, sae, name, deviceName == "reference");
    }

    /// <summary>An SAE against the goldens of a folder, which it need not have been opened from.</summary>
    internal static void Check(Device device, JumpReluSae sae, string name, bool doubles)
    {
        using var expected = new NpzArrays(Fixtures.Path("sae", "saes", name, "expected.npz"));
        double[] columnNorms = ColumnNorms(Fixtures.Path("sae", "saes", name));
        foreach (int rows in new[] { 1, 7, 33 })
            CheckBatch(device, sae, expected, rows, columnNorms, doubles);
    }

    [Theory]
    [InlineData("gs-scaling-factor-other")]
    [InlineData("gs-unknown-key")]
    [InlineData("sl-jumprelu-expected-average")]
    [InlineData("sl-jumprelu-whitening")]
    public void An_unsupported_form_is_refused_by_name(string name)
    {
        using Device device = TestDevices.Open("cpu");
        var error = Assert.Throws<InvalidDataException>(() => JumpReluSae.Open(device, Fixtures.Path("sae", "saes", name)));
        Assert.Contains(Refused[name], error.Message, StringComparison.Ordinal);
    }

    private static IEnumerable<string> Names()
    {
        using var index = JsonDocument.Parse(File.ReadAllBytes(Fixtures.Path("sae", "saes", "index.json")));
        return [.. index.RootElement.EnumerateObject().Select(p => p.Name)];
    }

    private static void CheckBatch(Device device, JumpReluSae sae, NpzArrays expected, int rows, double[] columnNorms, bool doubles)
    {
        float[] x = expected.Floats($"x_{rows}");
        Mat input = device.CreateMat(rows, sae.Config.InputDim, "x");
        Mat output = device.CreateMat(rows, sae.Config.OutputDim, "reconstruction");
        device.Write(x, input);
        using SparseCodes codes = sae.CreateCodes();
        sae.Encode(input, codes);
        sae.Decode(codes, input, output);
        var list = new CodeList();
        device.Read(codes, list);
        float[] reconstruction = new float[rows * sae.Config.OutputDim];
        device.Read(output, reconstruction);

        long[] starts = expected.Int64($"row_ptr_{rows}");
        int[] features = expected.Int32($"feature_{rows}");
        float[] values = expected.Floats($"value_{rows}");
        HashSet<(int, int)> near = Pairs(expected, $"near_{rows}"), exact = Pairs(expected, $"exact_{rows}");
        float[] expectedReconstruction = expected.Floats($"recon_{rows}");
        for (int r = 0; r < rows; r++)
        {
            int from = (int)starts[r], to = (int)starts[r + 1];
            Dictionary<int, float> wanted = Enumerable.Range(from, to - from).ToDictionary(i => features[i], i => values[i]);
            CheckActiveSet(list, r, wanted, near, exact);
            double norm = Math.Sqrt(x.AsSpan(r * sae.Config.InputDim, sae.Config.InputDim).ToArray().Sum(v => (double)v * v));
            double scale = sae.Config.Normalization == SaeNormalization.None ? norm : Math.Sqrt(sae.Config.InputDim);
            foreach ((int feature, float value) in wanted)
            {
                double allowed = (doubles ? 3e-7 : 1e-6) * ((scale * columnNorms[feature]) + 1);
                Assert.True(Math.Abs(list.ValueOf(r, feature) - value) <= allowed,
                    $"row {r} feature {feature}: {list.ValueOf(r, feature)} instead of {value}");
            }

            ReadOnlySpan<float> row = expectedReconstruction.AsSpan(r * sae.Config.OutputDim, sae.Config.OutputDim);
            Assert.True(Compare.Relative(reconstruction.AsSpan(r * sae.Config.OutputDim, sae.Config.OutputDim), row) <= 2e-6,
                $"reconstruction of row {r} of {rows}");
        }

        input.Buffer.Dispose();
        output.Buffer.Dispose();
    }

    private static void CheckActiveSet(CodeList list, int r, Dictionary<int, float> wanted,
        HashSet<(int, int)> near, HashSet<(int, int)> exact)
    {
        int[] active = list.FeaturesOf(r).ToArray();
        Assert.Equal(active.Order(), active);
        foreach (int feature in active.Except(wanted.Keys).Concat(wanted.Keys.Except(active)))
            Assert.True(near.Contains((r, feature)) && !IsAtThreshold(r), $"row {r} feature {feature}: the active sets differ");
        Assert.DoesNotContain(active, feature => exact.Contains((r, feature)));
    }

    /// <summary>Rows 2 and up to 10 are unit vectors at a threshold: they must come out right to the last bit.</summary>
    private static bool IsAtThreshold(int r) => r is >= 2 and < 11;

    private static HashSet<(int, int)> Pairs(NpzArrays expected, string name)
    {
        if (!expected.Has(name))
            return [];
        int[] flat = expected.Int32(name);
        return [.. Enumerable.Range(0, flat.Length / 2).Select(i => (flat[2 * i], flat[(2 * i) + 1]))];
    }

    /// <summary>Norm of each W_enc column plus |b_enc|.</summary>
    private static double[] ColumnNorms(string path)
    {
        using SaeCheckpoint checkpoint = SaeCheckpoint.Open(path);
        float[] encoder = new float[checkpoint.Encoder.ElementCount], bias = new float[checkpoint.EncoderBias.ElementCount];
        checkpoint.Encoder.CopyTo(encoder);
        checkpoint.EncoderBias.CopyTo(bias);
        double[] norms = new double[bias.Length];
        for (int f = 0; f < norms.Length; f++)
        {
            double sum = 0;
            for (int i = 0; i < checkpoint.Config.InputDim; i++)
                sum += (double)encoder[(i * norms.Length) + f] * encoder[(i * norms.Length) + f];
            norms[f] = Math.Sqrt(sum) + Math.Abs(bias[f]);
        }

        return norms;
    }
}
