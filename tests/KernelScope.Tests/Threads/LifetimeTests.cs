using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Threads;

/// <summary>Who keeps a mapping, what an op says of what was disposed, and what hooks and files refuse.</summary>
public class LifetimeTests
{
    private static string ModelFolder => Fixtures.Path("gemma2", "models", "base");

    private static string SaeFolder => Fixtures.Path("sae", "saes", "sl-jumprelu");

    [Fact]
    public void What_was_disposed_is_named()
    {
        using CpuDevice device = new(2);
        Gemma2Model model = Gemma2Model.Open(device, ModelFolder);
        JumpReluSae sae = JumpReluSae.Open(device, SaeFolder);
        Session session = model.NewSession();
        SparseCodes codes = sae.CreateCodes();
        Mat x = device.CreateMat(1, 48, "some rows");
        Weight head = model.Unembedding;
        model.Dispose();
        model.Dispose();
        sae.Dispose();
        sae.Dispose();
        Assert.Contains(ModelFolder, Assert.Throws<ObjectDisposedException>(() => model.Forward([2], session)).Message,
            StringComparison.Ordinal);
        Assert.Contains(ModelFolder, Assert.Throws<ObjectDisposedException>(() => model.NewSession()).Message, StringComparison.Ordinal);
        Assert.Contains(ModelFolder, Assert.Throws<ObjectDisposedException>(
            () => device.Linear(x, head, device.CreateMat(1, head.Rows, "logits"))).Message, StringComparison.Ordinal);
        Assert.Contains("sl-jumprelu", Assert.Throws<ObjectDisposedException>(() => sae.Encode(x, codes)).Message,
            StringComparison.Ordinal);
        Assert.Contains("sl-jumprelu", Assert.Throws<ObjectDisposedException>(() => device.SaeEncode(x, sae.Parameters, codes)).Message,
            StringComparison.Ordinal);
        x.Buffer.Dispose();
        Assert.Contains("some rows", Assert.Throws<ObjectDisposedException>(() => device.Softcap(x, 1f)).Message, StringComparison.Ordinal);
        device.Dispose();
        device.Dispose();
        Assert.Contains("cpu", Assert.Throws<ObjectDisposedException>(() => device.Synchronize()).Message, StringComparison.Ordinal);
        Assert.Throws<ObjectDisposedException>(() => device.CreateMat(1, 1, "late"));
        session.Dispose();
        codes.Dispose();
    }

    [Fact]
    public void A_checkpoint_that_was_loaded_twice_lives_until_both_models_are_disposed()
    {
        using ReferenceDevice device = new();
        Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(ModelFolder);
        Gemma2Model first = Gemma2Model.Load(device, checkpoint), second = Gemma2Model.Load(device, checkpoint);
        first.Dispose();
        checkpoint.Dispose();
        using (Session session = second.NewSession())
            second.Forward([2, 3], session);
        float[] row = new float[48];
        checkpoint.Embedding.CopyTo(0, row);
        Assert.Throws<ObjectDisposedException>(() => Gemma2Model.Load(device, checkpoint));
        second.Dispose();
        Assert.Throws<ObjectDisposedException>(() => checkpoint.Embedding.CopyTo(0, row));
    }

    [Fact]
    public void An_SAE_file_that_was_loaded_twice_lives_until_both_SAEs_are_disposed()
    {
        using ReferenceDevice device = new();
        SaeCheckpoint checkpoint = SaeCheckpoint.Open(SaeFolder);
        JumpReluSae first = JumpReluSae.Load(device, checkpoint), second = JumpReluSae.Load(device, checkpoint);
        first.Dispose();
        checkpoint.Dispose();
        FiniteParameters.Require(checkpoint);
        using (SparseCodes codes = second.CreateCodes())
            second.Encode(device.CreateMat(1, 48, "x"), codes);
        Assert.Throws<ObjectDisposedException>(() => JumpReluSae.Load(device, checkpoint));
        second.Dispose();
        Assert.Throws<ObjectDisposedException>(() => FiniteParameters.Require(checkpoint));
    }

    [Fact]
    public void Panels_that_two_checkpoints_use_live_until_both_are_through()
    {
        using TempFolder folder = new();
        string path = folder.At("base.panels");
        using (Gemma2Checkpoint source = Gemma2Checkpoint.Open(ModelFolder))
            ModelPanels.Write(source, path);
        using CpuDevice device = new(2);
        PanelFile panels = PanelFile.Open(path);
        Gemma2Checkpoint one = Gemma2Checkpoint.Open(ModelFolder), two = Gemma2Checkpoint.Open(ModelFolder);
        ModelPanels.Use(device.Panels, one, panels);
        ModelPanels.Use(device.Panels, two, panels);
        using Gemma2Model model = Gemma2Model.Load(device, one);
        two.Dispose();
        panels.Dispose();
        using Session session = model.NewSession();
        Assert.Equal(1, model.Forward([2, 3], session).Rows);
    }

    [Fact]
    public async Task A_checkpoint_that_is_disposed_while_it_is_loaded_is_loaded_or_refused()
    {
        using CpuDevice device = new(2);
        for (int n = 0; n < 50; n++)
        {
            Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(ModelFolder);
            Task disposal = Task.Run(checkpoint.Dispose);
            try
            {
                using Gemma2Model model = Gemma2Model.Load(device, checkpoint);
                using Session session = model.NewSession();
                model.Forward([2], session);
            }
            catch (ObjectDisposedException)
            {
                // The disposal was first.
            }

            await disposal;
        }
    }

    [Fact]
    public void Files_in_memory_give_the_same_numbers_and_do_not_care_what_becomes_of_the_files()
    {
        using TempFolder folder = new();
        TempFolder.CopyFolder(ModelFolder, folder.At("model"));
        TempFolder.CopyFolder(SaeFolder, folder.At("sae"));
        using CpuDevice device = new(2);
        float[] expected, logits = new float[300];
        using (Gemma2Model model = Gemma2Model.Open(device, ModelFolder))
            expected = Logits(model);
        using Gemma2Model inMemory = Gemma2Model.Load(device, Gemma2Checkpoint.Open(folder.At("model"), intoMemory: true));
        using JumpReluSae sae = JumpReluSae.Load(device, SaeCheckpoint.Open(folder.At("sae"), intoMemory: true));
        foreach (string file in Directory.GetFiles(folder.Path, "*", SearchOption.AllDirectories))
            File.WriteAllBytes(file, []);
        Assert.Equal(expected, Logits(inMemory));
        using SparseCodes codes = sae.CreateCodes();
        sae.Encode(device.CreateMat(2, 48, "x"), codes);

        static float[] Logits(Gemma2Model model)
        {
            using Session session = model.NewSession();
            float[] row = new float[model.Config.VocabSize];
            model.Device.Read(model.Forward([2, 5, 7], session), row);
            return row;
        }
    }

    [Theory]
    [InlineData((Site)99, 0, "no site 99")]
    [InlineData((Site)(-1), 0, "no site -1")]
    [InlineData(Site.Logits, 3, "'logits' belongs to no layer")]
    [InlineData(Site.Embed, 1, "'embed' belongs to no layer")]
    [InlineData(Site.FinalNorm, -1, "'final_norm' belongs to no layer")]
    [InlineData(Site.ResidPost, 4, "layers 0 to 3")]
    [InlineData(Site.ResidPost, -1, "layers 0 to 3")]
    public void A_hook_that_can_never_fire_is_refused(Site site, int layer, string why)
    {
        var hooks = new HookSet(layerCount: 4);
        Assert.Contains(why, Assert.Throws<ArgumentOutOfRangeException>(
            () => hooks.Add(new HookPoint(site, layer), (_, _, _) => { })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Profiles_of_several_threads_count_every_op()
    {
        using CpuDevice cpu = new(2);
        using ProfilingDevice device = new(cpu);
        Mat[] rows = [.. Enumerable.Range(0, 4).Select(n => device.CreateMat(1, 8, $"row {n}"))];
        Parallel.ForEach(rows, row =>
        {
            for (int n = 0; n < 250; n++)
                device.AddScaled(row, 1f, row);
        });
        Assert.Equal(1000, Assert.Single(device.Ops).Calls);
    }
}
