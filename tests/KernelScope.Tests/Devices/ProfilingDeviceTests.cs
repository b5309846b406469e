using KernelScope.Conformance;
using KernelScope.Cpu;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Model;

using TheDemo = KernelScope.Demo;

namespace KernelScope.Tests.Devices;

public sealed class ProfilingDeviceTests
{
    private static readonly int[] Tokens = [2, 17, 300, 45, 4000, 9, 77];

    [Fact]
    public void It_passes_the_op_suite()
    {
        using var inner = new CpuDevice(1);
        using var device = new ProfilingDevice(inner);
        foreach (ConformanceCase c in ConformanceSuite.Cases(ConformanceScale.Tiny))
        {
            ConformanceResult result = c.Run(device);
            Assert.True(result.Ok, result.ToString());
        }
    }

    [Fact]
    public void It_changes_no_bit_of_a_forward_pass()
    {
        using var plain = new CpuDevice(2);
        using var inner = new CpuDevice(2);
        using var profiled = new ProfilingDevice(inner);
        Assert.Equal(Logits(plain), Logits(profiled));
    }

    [Fact]
    public void Fused_ops_stay_fused_and_are_counted_by_their_weight()
    {
        using var inner = new CpuDevice(1);
        using var device = new ProfilingDevice(inner);
        using Gemma2Model model = Gemma2Model.Load(device, TheDemo.OpenCheckpoint());
        using Session session = model.NewSession(16);
        // The first call also fills the table of RoPE.
        model.Forward(Tokens, session);
        session.Reset();
        device.Reset();
        model.Forward(Tokens, session);
        Dictionary<string, OpProfile> ops = device.Ops.ToDictionary(o => o.Op);
        // Six layers; the first norm is the only one that is not fused with what lies before it. The rows after the final norm are copied for the session.
        Assert.Equal(
            ["AddNormedThenNorm 12", "Attend global 3", "Attend sliding 3", "Copy 1", "Embed 1", "GatedGelu gate_up 6", "Linear down 6",
            "Linear embedding 1", "Linear o 6", "Linear qkv 6", "RmsNorm 1", "RopeThenStore 6", "Softcap 1"],
            ops.Values.Select(o => $"{o.Op} {o.Calls}").Order(StringComparer.Ordinal));

        // Four products, attention, the cache and two norms a layer; before them the embedding and the first norm, behind them the logits and the rows of the final norm that the session keeps.
        Assert.Equal([.. Enumerable.Repeat(8L, 6), 5], device.Entries.GroupBy(e => e.Layer).OrderBy(g => g.Key ?? int.MaxValue)
            .Select(g => g.Sum(e => e.Calls)));

        const int Rows = 7, ModelDim = 224, MlpDim = 896, Vocabulary = 4096;
        Assert.Equal(6.0 * 2 * Rows * ModelDim * MlpDim, ops["Linear down"].Cost.Flops);
        Assert.Equal(6.0 * ((2 * ModelDim * MlpDim) + (4 * Rows * (ModelDim + MlpDim))), ops["Linear down"].Cost.Bytes);
        // The logits of the last row only.
        Assert.Equal((2.0 * ModelDim * Vocabulary) + (4 * (ModelDim + Vocabulary)), ops["Linear embedding"].Cost.Bytes);
        // 1 + 2 + … + 7 pairs a head, four heads of 64.
        Assert.Equal(3.0 * 28 * 4 * 64 * 4, ops["Attend global"].Cost.Flops);
        Assert.All(ops.Values, o => Assert.True(o.Seconds > 0, o.ToString()));
    }

    [Fact]
    public void A_product_from_panels_counts_their_bytes()
    {
        using var inner = new CpuDevice(1);
        using var device = new ProfilingDevice(inner);
        using Gemma2Checkpoint demo = TheDemo.OpenCheckpoint();
        using var packed = new PackedMatrix(demo.Embedding);
        Assert.True(packed.View.IsCompact);
        using Weight plain = device.CreateWeight("plain", new WeightPart(demo.Embedding)),
            panels = device.CreateWeight("panels", new WeightPart(demo.Embedding) { Pack = true });
        Mat x = device.CreateMat(1, plain.Columns, "x"), y = device.CreateMat(1, plain.Rows, "y");
        device.Linear(x, plain, y);
        device.Linear(x, panels, y);
        Dictionary<string, OpProfile> ops = device.Ops.ToDictionary(o => o.Op);
        Assert.Equal(packed.ByteLength - demo.Embedding.ByteLength, ops["Linear panels"].Cost.Bytes - ops["Linear plain"].Cost.Bytes);
        x.Buffer.Dispose();
        y.Buffer.Dispose();
    }

    [Fact]
    public void A_decode_counts_the_rows_of_its_features_once()
    {
        using var inner = new CpuDevice(1);
        using var device = new ProfilingDevice(inner);
        using var sae = KernelScope.Sae.JumpReluSae.Load(device, TheDemo.OpenSae(TheDemo.DefaultSae));
        using SparseCodes codes = sae.CreateCodes();
        var list = new CodeList();
        list.Resize(2, 3);
        (list.RowStart[1], list.RowStart[2]) = (1, 3);
        (list.Feature[0], list.Feature[1], list.Feature[2]) = (5, 5, 9);
        list.Value.AsSpan(0, 3).Fill(1);
        device.Write(list, codes);
        Mat y = device.CreateMat(2, 224, "y");
        device.Reset();
        device.SaeDecode(codes, sae.Parameters, y);
        y.Buffer.Dispose();
        OpProfile op = Assert.Single(device.Ops);
        double element = (double)TheDemo.OpenSae(TheDemo.DefaultSae).Decoder.ByteLength / (224 * 2048);
        Assert.Equal(new OpCost((2 * 224 * element) + (4 * ((3 * 224) + 6)), 2 * 3 * 224), op.Cost);
    }

    private static float[] Logits(Device device)
    {
        using Gemma2Model model = Gemma2Model.Load(device, TheDemo.OpenCheckpoint());
        using Session session = model.NewSession(16);
        Mat logits = model.Forward(Tokens, session, LogitRows.All);
        float[] values = new float[logits.Rows * logits.Columns];
        device.Read(logits, values);
        return values;
    }
}
