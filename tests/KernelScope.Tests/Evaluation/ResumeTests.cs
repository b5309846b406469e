using System.Text;
using System.Text.Json;
using KernelScope.Evaluation;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Evaluation;

/// <summary>A run that was broken off anywhere and went on gives the bits of an unbroken one.</summary>
public sealed class ResumeTests
{
    private static readonly string[] TwoSaes = [EvaluationCase.Residual, "sae-mlp_in_unit.1-to-mlp_out_post.1"];

    [Fact]
    public void A_run_that_fails_after_any_sequence_goes_on_with_the_same_bits()
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", TwoSaes);
        string wanted = Run(evaluation, folder, "unbroken", null, null, out byte[] arrays);
        int reports = evaluation.Tokens.Count * 2;
        for (int k = 1; k <= reports; k++)
        {
            string resume = folder.At($"resume{k}");
            Assert.Throws<OperationCanceledException>(() => Run(evaluation, folder, $"broken{k}", resume, k, out _));
            Assert.False(File.Exists(folder.At($"broken{k}.npz")), "a broken run leaves no arrays");
            Assert.Equal(wanted, Run(evaluation, folder, $"resumed{k}", resume, null, out byte[] resumed));
            Assert.True(arrays.AsSpan().SequenceEqual(resumed), $"the arrays differ after a break at {k}");
        }

        Assert.Empty(Directory.GetFiles(folder.Path, "*.tmp"));
    }

    [Fact]
    public void A_resume_file_that_ends_anywhere_goes_on_with_the_same_bits()
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Residual);
        string whole = folder.At("whole"), wanted = Run(evaluation, folder, "unbroken", whole, null, out byte[] arrays);
        byte[] journal = File.ReadAllBytes(whole);
        // The header comes at once, by renaming: a kill cannot cut it.
        int header = HeaderLength(journal);
        var random = new Random(5);
        for (int k = 0; k < 25; k++)
        {
            byte[] cut = journal[..random.Next(header, journal.Length + 1)];
            // A block that was allocated and not written reads as zeros, or as something else.
            byte[] tail = new byte[random.Next(3) * 100];
            if (k % 2 == 0)
                random.NextBytes(tail);
            string resume = folder.Write($"cut{k}", [.. cut, .. tail]);
            Assert.Equal(wanted, Run(evaluation, folder, $"resumed{k}", resume, null, out byte[] resumed));
            Assert.True(arrays.AsSpan().SequenceEqual(resumed), $"the arrays differ after a cut at {cut.Length}");
            Assert.Equal(journal.Length, new FileInfo(resume).Length);
        }
    }

    [Fact]
    public void A_damaged_record_is_measured_again()
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Residual);
        string whole = folder.At("whole"), wanted = Run(evaluation, folder, "unbroken", whole, null, out _);
        byte[] journal = File.ReadAllBytes(whole);
        journal[journal.Length / 2] ^= 1;
        Assert.Equal(wanted, Run(evaluation, folder, "resumed", folder.Write("damaged", journal), null, out _));
    }

    [Fact]
    public void Results_do_not_depend_on_what_is_kept_between_the_passes()
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", TwoSaes);
        Assert.Equal(Json(evaluation.Run()), Json(evaluation.Run(new() { KeepBytes = 0 })));
        Assert.Equal(Json(evaluation.Run()), Json(evaluation.Run(new() { KeepBytes = 3L * 4 * 40 * 48 })));
    }

    /// <summary>What follows from the passes that are made has the bits that it has beside all others; the rest is not a number.</summary>
    [Fact]
    public void The_default_splices_alone_give_the_bits_that_they_give_beside_all_others()
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Names);
        EvaluationResult all = evaluation.Run();
        var options = new EvaluationOptions { Splices = SpliceRun.OfDefaults, ResumePath = folder.At("resume") };
        // The second time from the file alone.
        foreach (EvaluationResult few in (EvaluationResult[])[evaluation.Run(options), evaluation.Run(options)])
        {
            foreach ((SaeResult one, SaeResult wanted) in few.Saes.Zip(all.Saes))
            {
                foreach (string[] path in wanted.Metrics.Paths)
                    Assert.Equal(IsMeasured(path) ? wanted.Metrics[path] : double.NaN, one.Metrics[path]);
                foreach (string[] path in wanted.ConfidenceLow.Paths.Where(IsMeasured))
                {
                    Assert.Equal((wanted.ConfidenceLow[path], wanted.ConfidenceHigh[path]),
                        (one.ConfidenceLow[path], one.ConfidenceHigh[path]));
                }

                Assert.Equal(wanted.ByPositionDelta, one.ByPositionDelta);
                Assert.Equal(wanted.ByPositionKl, one.ByPositionKl);
                Assert.Equal(wanted.ByPositionFvu, one.ByPositionFvu);
            }
        }

        static bool IsMeasured(string[] path) => path switch
        {
            ["sae_plus_error_max_logit_difference"] => false,
            ["splices", string run, string what, ..] => run is "sae/keep_bos" or "zero/keep_bos" && what != "loss_recovered_mean",
            ["saelens", _, string name] => !name.StartsWith("kl_", StringComparison.Ordinal)
                && (!name.StartsWith("ce_", StringComparison.Ordinal) || name == "ce_loss_without_sae"),
            _ => true,
        };
    }

    /// <summary>A caller's own file that nothing can go on from is begun anew; a user's is left.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(40)]
    [InlineData(3000)]
    public void A_file_of_the_callers_own_is_begun_anew_where_it_is_damaged(int length)
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Names);
        var options = new EvaluationOptions { ResumePath = folder.At("resume"), OwnsResumeFile = true };
        EvaluationResult unbroken = evaluation.Run(options);
        byte[] journal = File.ReadAllBytes(folder.At("resume"));
        byte[] damaged = [.. journal.Take(length).Select((b, i) => length == 3000 ? (byte)(i * 7) : b)];
        File.WriteAllBytes(folder.At("resume"), damaged);
        Assert.Throws<InvalidDataException>(() => evaluation.Run(options with { OwnsResumeFile = false }));
        Assert.Equal(damaged, File.ReadAllBytes(folder.At("resume")));
        EvaluationResult anew = evaluation.Run(options);
        Assert.Equal(unbroken.Saes[0].Metrics["fvu"], anew.Saes[0].Metrics["fvu"]);
        Assert.Equal(journal, File.ReadAllBytes(folder.At("resume")));
    }

    public static TheoryData<string, string> Differences() => new()
    {
        { "sae", "the SAE" }, { "model", "the model" }, { "tokens", "the tokens" }, { "special", "the special ids" },
            { "site", "the sites" }, { "arrays", "the arrays that are written" }, { "device", "the device, the instructions that compute" },
                { "gradients", "whether gradients are measured" },
                { "splices", "the splices that are measured" },
    };

    [Theory]
    [MemberData(nameof(Differences))]
    public void A_resume_file_of_another_evaluation_is_refused_and_kept(string difference, string named)
    {
        using var folder = new TempFolder();
        string resume = folder.At("resume");
        using (var evaluation = new EvaluationCase("cpu", EvaluationCase.Residual))
            evaluation.Run(new() { ResumePath = resume });
        byte[] before = File.ReadAllBytes(resume);

        using var other = new EvaluationCase(difference == "device" ? "reference" : "cpu", difference == "sae" ? "sae-mlp_out_post.1"
            : EvaluationCase.Residual);
        using EvaluationCase? altered = difference == "model" ? WithAnotherModel(folder) : null;
        EvaluationCase used = altered ?? other;
        SaeTarget target = used.Targets[0];
        // Only one thing may differ, so the other SAE is put at the first one's site.
        target = target with
        {
            Site = new(Hooks.Site.ResidPost, difference == "site" ? 1 : 2),
            SiteOut = new(Hooks.Site.ResidPost, difference == "site" ? 1 : 2)
        };
        TokenSet tokens = difference switch
        {
            "tokens" => TokenSet.Create([.. EvaluationCase.Sequences(EvaluationCase.Folder("tokens.json")).Skip(1)], used.Model.Config),
            "special" => TokenSet.Create(EvaluationCase.Sequences(EvaluationCase.Folder("tokens.json")), used.Model.Config, [0, 2]),
            _ => used.Tokens,
        };
        var options = new EvaluationOptions
        {
            ResumePath = resume,
            ArraysPath = difference == "arrays" ? folder.At("arrays.npz")
            : null,
            Gradients = difference != "gradients",
            Splices = difference == "splices" ? SpliceRun.OfDefaults : SpliceRun.Every
        };
        var error = Assert.Throws<InvalidDataException>(() => new SaeEvaluation(used.Model, [target], tokens, options).Run());
        Assert.Contains($"belongs to another evaluation; what differs: {named}.", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(resume));
    }

    [Theory]
    [InlineData("")]
    [InlineData("{\"sequences\": []}")]
    [InlineData("KernelScope evaluation 1\n")]
    [InlineData("KernelScope evaluation 2\n")]
    public void A_file_that_is_no_resume_file_is_refused_and_kept(string content)
    {
        using var folder = new TempFolder();
        using var evaluation = new EvaluationCase("cpu", EvaluationCase.Residual);
        string path = folder.Write("notes.txt", content);
        Assert.Throws<InvalidDataException>(() => evaluation.Run(new() { ResumePath = path }));
        Assert.Equal(content, File.ReadAllText(path));
    }

    private static string Run(EvaluationCase evaluation, TempFolder folder, string name, string? resume, int? breakAt, out byte[] arrays)
    {
        string path = folder.At(name + ".npz");
        EvaluationResult result =
            new SaeEvaluation(evaluation.Model, evaluation.Targets,
                evaluation.Tokens, new() { ArraysPath = path, ResumePath = resume }).Run(new Breaking(breakAt));
        arrays = File.ReadAllBytes(path);
        return Json(result);
    }

    private static string Json(EvaluationResult result)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
            EvaluationJson.Write(json, result, "model");
        return Encoding.UTF8.GetString(stream.ToArray());
    }

    private static int HeaderLength(byte[] journal)
    {
        int magic = Array.IndexOf(journal, (byte)'\n') + 1;
        return magic + 4 + BitConverter.ToInt32(journal, magic) + 4;
    }

    /// <summary>The same model with one bit of one weight changed.</summary>
    private static EvaluationCase WithAnotherModel(TempFolder folder)
    {
        TempFolder.CopyFolder(EvaluationCase.Folder("model"), folder.At("model"));
        string weights = folder.At("model", "model.safetensors");
        byte[] bytes = File.ReadAllBytes(weights);
        bytes[^3] ^= 1;
        File.WriteAllBytes(weights, bytes);
        return new EvaluationCase(TestDevices.Open("cpu"), folder.At("model"), EvaluationCase.Residual);
    }

    private sealed class Breaking(int? at) : IProgress<EvaluationProgress>
    {
        private int _reports;

        public void Report(EvaluationProgress value)
        {
            if (++_reports == at)
                throw new OperationCanceledException();
        }
    }
}
