using FsCheck;
using FsCheck.Fluent;
using FsCheck.Xunit;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Tests.Model;

/// <summary>What must hold for any tokens and any way of feeding them; no golden is needed. The model of fixtures/gemma2/models/base: windows of 6, context 512.</summary>
public sealed class InvariantTests : IDisposable
{
    private const int VocabSize = 300;

    private readonly Device[] _devices = [.. TestDevices.All.Select(TestDevices.Open)];
    private readonly Gemma2Model[] _models;

    public InvariantTests() => _models = [.. _devices.Select(d => Gemma2Model.Open(d, Fixtures.Path("gemma2", "models", "base")))];

    public static Arbitrary<int[]> Sequences() => Gen.Choose(0, VocabSize - 1).ArrayOf().Where(a => a.Length is > 1 and < 48).ToArbitrary();

    [Property(MaxTest = 15, Arbitrary = [typeof(InvariantTests)])]
    public void Prefill_equals_decoding_step_by_step(int[] tokens)
    {
        foreach (Gemma2Model model in _models)
            AssertSame(AllLogits(model, tokens, [tokens.Length]), AllLogits(model, tokens, [.. Enumerable.Repeat(1, tokens.Length)]));
    }

    [Property(MaxTest = 15, Arbitrary = [typeof(InvariantTests)])]
    public void Chunks_equal_the_whole_for_any_split(int[] tokens, int seed)
    {
        var random = new Random(seed);
        var split = new List<int>();
        for (int left = tokens.Length; left > 0; left -= split[^1])
            split.Add(random.Next(1, left + 1));
        foreach (Gemma2Model model in _models)
            AssertSame(AllLogits(model, tokens, [tokens.Length]), AllLogits(model, tokens, [.. split]));
    }

    [Property(MaxTest = 10, Arbitrary = [typeof(InvariantTests)])]
    public void A_ring_equals_a_full_cache_past_the_window(int[] tokens)
    {
        // A chunk of one token makes the ring as small as the window; a chunk of the context's length makes it hold everything.
        foreach (Gemma2Model model in _models)
            AssertSame(AllLogits(model, tokens, [.. Enumerable.Repeat(1, tokens.Length)], chunk: 1),
                AllLogits(model, tokens, [.. Enumerable.Repeat(1, tokens.Length)], chunk: 512));
    }

    [Property(MaxTest = 10, Arbitrary = [typeof(InvariantTests)])]
    public void Identity_edits_at_every_hook_point_change_no_bit(int[] tokens)
    {
        foreach (Gemma2Model model in _models)
        {
            float[] plain = AllLogits(model, tokens, [tokens.Length]);
            float[] hooked = AllLogits(model, tokens, [tokens.Length], hook: WriteBack);
            Assert.True(plain.AsSpan().SequenceEqual(hooked));
        }
    }

    [Property(MaxTest = 10, Arbitrary = [typeof(InvariantTests)])]
    public void Two_runs_give_the_same_bits(int[] tokens)
    {
        foreach (Gemma2Model model in _models)
            Assert.True(AllLogits(model, tokens, [tokens.Length]).AsSpan().SequenceEqual(AllLogits(model, tokens, [tokens.Length])));
    }

    [Property(MaxTest = 5, Arbitrary = [typeof(InvariantTests)])]
    public void Any_number_of_threads_gives_the_same_bits(int[] tokens)
    {
        float[][] logits = [.. new[] { 1, 2, 3 }.Select(threads =>
        {
            using var device = new CpuDevice(threads);
            using Gemma2Model model = Gemma2Model.Open(device, Fixtures.Path("gemma2", "models", "base"));
            return AllLogits(model, tokens, [tokens.Length]);
        })];
        Assert.True(logits[0].AsSpan().SequenceEqual(logits[1]));
        Assert.True(logits[0].AsSpan().SequenceEqual(logits[2]));
    }

    [Property(MaxTest = 10, Arbitrary = [typeof(InvariantTests)])]
    public void Two_interleaved_sessions_equal_two_alone(int[] tokens)
    {
        int[] reversed = [.. tokens.AsEnumerable().Reverse()];
        foreach (Gemma2Model model in _models)
        {
            using Session first = model.NewSession(), second = model.NewSession();
            float[] a = [], b = [];
            for (int t = 0; t < tokens.Length; t++)
            {
                a = Read(model, model.Forward([tokens[t]], first));
                b = Read(model, model.Forward([reversed[t]], second));
            }

            Assert.True(a.AsSpan().SequenceEqual(LastLogits(model, tokens)));
            Assert.True(b.AsSpan().SequenceEqual(LastLogits(model, reversed)));
        }
    }

    [Property(MaxTest = 10, Arbitrary = [typeof(InvariantTests)])]
    public void Resuming_above_a_layer_equals_the_whole_run(int[] tokens, byte layer)
    {
        foreach (Gemma2Model model in _models)
        {
            int from = layer % (model.Config.LayerCount + 1);
            HookPoint stream = from < model.Config.LayerCount ? new(Site.ResidPre, from) : new(Site.ResidPost, from - 1);
            using Session session = model.NewSession(chunkLength: tokens.Length);
            using var cache = new ActivationCache(session.Hooks, [stream], tokens.Length);
            float[] whole = Read(model, model.Forward(tokens, session, LogitRows.All));
            Mat resid = model.Device.CreateMat(tokens.Length, model.Config.ModelDim, "resid");
            model.Device.Write(cache.Values(stream), resid);
            cache.Dispose();
            session.Reset();
            float[] resumed = Read(model, model.ForwardFrom(from, resid, tokens, session, LogitRows.All));
            resid.Buffer.Dispose();
            Assert.True(whole.AsSpan().SequenceEqual(resumed));
        }
    }

    [Fact]
    public void The_stream_is_the_sum_of_what_was_added_to_it()
    {
        foreach (Gemma2Model model in _models)
        {
            int[] tokens = [2, 5, 7, 11, 13, 17, 19, 23];
            using Session session = model.NewSession();
            using var cache = new ActivationCache(session.Hooks, HookPoint.All(model.Config.LayerCount), tokens.Length);
            session.Prefill(tokens);
            for (int l = 0; l < model.Config.LayerCount; l++)
            {
                for (int i = 0; i < tokens.Length * model.Config.ModelDim; i++)
                {
                    float mid = cache.Values(new(Site.ResidPre, l))[i] + cache.Values(new(Site.AttnOutPost, l))[i];
                    Assert.Equal(cache.Values(new(Site.ResidMid, l))[i], mid);
                    Assert.Equal(cache.Values(new(Site.ResidPost, l))[i], mid + cache.Values(new(Site.MlpOutPost, l))[i]);
                }
            }
        }
    }

    public void Dispose()
    {
        foreach (Gemma2Model model in _models)
            model.Dispose();
        foreach (Device device in _devices)
            device.Dispose();
    }

    private static void WriteBack(HookCall call, HookPoint point, Mat value)
    {
        float[] copy = new float[value.Rows * value.Columns];
        call.Device.Read(value, copy);
        call.Device.Write(new float[copy.Length], value);
        call.Device.Write(copy, value);
    }

    private static float[] LastLogits(Gemma2Model model, int[] tokens)
    {
        float[] all = AllLogits(model, tokens, [.. Enumerable.Repeat(1, tokens.Length)]);
        return all[^VocabSize..];
    }

    private static float[] AllLogits(Gemma2Model model, int[] tokens, int[] split, int chunk = 0, Hook? hook = null)
    {
        using Session session = model.NewSession(chunkLength: chunk);
        if (hook is not null)
        {
            foreach (HookPoint point in HookPoint.All(model.Config.LayerCount))
                session.Hooks.Add(point, hook);
        }

        var logits = new List<float>();
        int start = 0;
        foreach (int count in split)
        {
            logits.AddRange(Read(model, model.Forward(tokens.AsSpan(start, count), session, LogitRows.All)));
            start += count;
        }

        return [.. logits];
    }

    private static float[] Read(Gemma2Model model, Mat x)
    {
        float[] values = new float[x.Rows * x.Columns];
        model.Device.Read(x, values);
        return values;
    }

    private static void AssertSame(float[] expected, float[] actual) =>
        Assert.True(expected.AsSpan().SequenceEqual(actual), $"logits differ by {Compare.Largest(actual, expected):g3}");
}
