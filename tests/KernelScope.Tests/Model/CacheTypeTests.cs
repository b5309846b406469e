using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Numerics;

namespace KernelScope.Tests.Model;

/// <summary>Keys and values kept as bfloat16: half the memory, and the bits of rounded keys and values in float32, however a sequence is fed.</summary>
public sealed class CacheTypeTests
{
    private static readonly int[] Start = [2, 11, 7, 9, 30, 5, 8, 13, 21, 34, 55, 89, 3, 4, 6, 10, 12, 14, 18], More = [34, 55, 3];

    public static TheoryData<string> Devices() => [.. TestDevices.All];

    /// <summary>A hook that rounds k and v of an ordinary session gives what a bfloat16 cache gives, to the last bit: prefill and decode.</summary>
    [Theory]
    [MemberData(nameof(Devices))]
    public void It_is_a_float32_cache_of_rounded_keys_and_values(string deviceName)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        using Session plain = model.NewSession(chunkLength: 8), rounded = model.NewSession(chunkLength: 8);
        for (int l = 0; l < model.Config.LayerCount; l++)
        {
            rounded.Hooks.Add(new HookPoint(Site.K, l), (_, _, x) => Round(device, x));
            rounded.Hooks.Add(new HookPoint(Site.V, l), (_, _, x) => Round(device, x));
        }

        model.CacheType = DType.BF16;
        using Session narrow = model.NewSession(chunkLength: 8);
        foreach (int[] tokens in (int[][])[Start, [40], [41]])
        {
            float[] expected = Logits(rounded.Prefill(tokens));
            Assert.Equal(expected, Logits(narrow.Prefill(tokens)));
            Assert.NotEqual(expected, Logits(plain.Prefill(tokens)));
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Pieces_forks_going_back_and_files_change_no_bit(string deviceName)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        model.CacheType = DType.BF16;
        using Session plain = model.NewSession(64, 16);
        plain.Prefill(Start);
        float[] expected = Logits(plain.Prefill(More));
        string path = Path.Combine(Path.GetTempPath(), $"kernelscope-{Path.GetRandomFileName()}.safetensors");
        try
        {
            using Session parent = model.NewSession(64, 16);
            foreach (int[] piece in (int[][])[Start[..3], Start[3..4], Start[4..]])
                parent.Prefill(piece);
            parent.Save(path);
            using Session child = parent.Fork(), copy = parent.CopyOf(parent.Position, 60, 16)!;
            child.Prefill([40, 41, 42]);
            child.Rewind(Start.Length);
            Assert.Equal(expected, Logits(child.Prefill(More)));
            Assert.Equal(expected, Logits(copy.Prefill(More)));
            Assert.Equal(expected, Logits(parent.Prefill(More)));
            using Session loaded = model.LoadSession(path);
            Assert.Equal(expected, Logits(loaded.Prefill(More)));

            // As bits, not as floats; and no other kind of session takes them.
            using (SafetensorsFile file = SafetensorsFile.Open(path))
                Assert.Equal(("BF16", DType.BF16), (file.Metadata["cache_dtype"], file["keys.0"].DType));
            model.CacheType = DType.F32;
            InvalidDataException refused = Assert.Throws<InvalidDataException>(() => model.LoadSession(path));
            Assert.Contains(
                "its keys and values are 'BF16'; sessions of this model keep them as F32", refused.Message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void A_sequence_gets_the_same_bits_whoever_shares_its_step(string deviceName)
    {
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Open(device);
        model.CacheType = DType.BF16;
        int[][] prompts = [Start, Start[..5], Start[2..9]];
        Session[] together = [.. prompts.Select(_ => model.NewSession(64, 32))], alone = [.. prompts.Select(_ => model.NewSession(64, 32))];
        model.Forward([.. prompts.Select((p, n) => new SessionTokens(together[n], p))]);
        for (int n = 0; n < prompts.Length; n++)
            Assert.Equal(Logits(alone[n].Prefill(prompts[n])), Logits(together[n].Logits));
        model.Forward([.. together.Select((s, n) => new SessionTokens(s, new[] { 40 + n }))]);
        for (int n = 0; n < prompts.Length; n++)
            Assert.Equal(Logits(alone[n].Prefill([40 + n])), Logits(together[n].Logits));

        model.CacheType = DType.F32;
        using Session other = model.NewSession(64, 32);
        Assert.Throws<ArgumentException>(() => model.Forward([new(together[0], new[] { 1 }), new(other, new[] { 1 })]));
        foreach (Session session in (Session[])[.. together, .. alone])
            session.Dispose();
    }

    /// <summary>Scores and patterns are made of the keys that the device reads.</summary>
    [Fact]
    public void Who_listens_at_attention_sees_the_rounded_keys()
    {
        using var device = new ReferenceDevice();
        using Gemma2Model model = Open(device);
        model.CacheType = DType.BF16;
        using Session listened = model.NewSession(), plain = model.NewSession();
        listened.Hooks.Add(new HookPoint(Site.AttnPattern, 0), (_, _, pattern) => Scale(device, pattern, 1.0000001f));
        float[] expected = Logits(plain.Prefill(Start)), actual = Logits(listened.Prefill(Start));
        for (int i = 0; i < expected.Length; i++)
            Assert.InRange(actual[i] - expected[i], -1e-4, 1e-4);
    }

    [Fact]
    public void It_takes_half_the_bytes_and_is_nobodys_default()
    {
        using var device = new CpuDevice();
        using Gemma2Model model = Open(device);
        Assert.Equal(DType.F32, model.CacheType);
        long cache = KvCache.BytesFor(model.Config, 400, 16, DType.F32);
        Assert.Equal(cache, 2 * KvCache.BytesFor(model.Config, 400, 16, DType.BF16));
        Assert.Equal(cache / 2, Session.BytesFor(model.Config, 400, 16) - Session.BytesFor(model.Config, 400, 16, DType.BF16));
        Assert.Throws<ArgumentException>(() => model.CacheType = DType.F16);
        Assert.Equal(DType.F32, model.CacheType);
        model.CacheType = DType.BF16;
        using Session session = model.NewSession(400, 16);
        long words = Enumerable.Range(0, model.Config.LayerCount)
            .Sum(l => session.Cache[l].Keys.Buffer.Length + session.Cache[l].Values.Buffer.Length);
        Assert.Equal(cache / 2, 4 * words);
    }

    private static Gemma2Model Open(Device device) => Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));

    private static void Round(Device device, Mat x) => Change(device, x, v => (float)(BFloat16)v);

    private static void Scale(Device device, Mat x, float factor) => Change(device, x, v => v * factor);

    private static void Change(Device device, Mat x, Func<float, float> change)
    {
        float[] values = new float[x.Rows * x.Columns];
        device.Read(x, values);
        device.Write(Array.ConvertAll(values, v => change(v)), x);
    }

    private static float[] Logits(Mat row) => HostBuffer.Row(row, row.Rows - 1).ToArray();
}
