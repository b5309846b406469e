using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;
using KernelScope.Text;
using KernelScope.Training;

namespace KernelScope.Samples;

/// <summary>Stores activations of a text, trains a sparse autoencoder on them, and looks at what it found.</summary>
internal static class YourOwnSae
{
    private const int Tales = 300, Most = 64;
    private static readonly HookPoint Site = HookPoint.Parse("resid_post.3");

    public static void Main(string[] args)
    {
        GemmaTokenizer tokenizer = Demo.OpenTokenizer();
        using var device = new CpuDevice();
        using var model = Gemma2Model.Load(device, Demo.OpenCheckpoint());
        string folder = Directory.CreateTempSubdirectory("sae-").FullName, acts = Path.Combine(folder, "acts.npz");
        try
        {
            // 1. One row of activations for each token but the first, which is BOS.
            List<int> tokens = [];
            List<float> x = [];
            for (int tale = 0; tale < Tales; tale++)
            {
                int[] ids = [tokenizer.BosId, .. tokenizer.Encode(Tale(tale)).Take(Most - 1)];
                x.AddRange(Activations(model, ids).AsSpan(model.Config.ModelDim));
                tokens.AddRange(ids[1..]);
            }

            using (var file = new NpzWriter(acts))
            {
                file.Add<float>("resid_post.3", x.ToArray(), tokens.Count, model.Config.ModelDim);
                file.Commit();
            }

            Console.WriteLine($"{tokens.Count} rows of {model.Config.ModelDim} values at {Site}");

            // 2. A JumpReLU SAE, by the recipe of the Gemma Scope paper, with the short schedule of a short training.
            var options = new TrainingOptions
            {
                Width = 256,
                Sparsity = 0.004,
                Steps = 600,
                Batch = 256,
                LearningRate = 2e-3,
                LearningRateWarmUp = 50,
                LearningRateDecay = 200,
                SparsityWarmUp = 150,
                Bandwidth = 0.05,
                Threshold = 0.05,
            };
            using var rows = StoredRows.Open(acts, "resid_post.3", validation: 0.1);
            using var trainer = new SaeTrainer(device, rows, options);
            var run = new TrainingRun(trainer, new TrainingFiles { Folder = folder, Place = new TrainedPlace { Site = Site } });
            ValidationResult result = run.Execute().Validation!;
            Console.WriteLine($"{options.Steps} steps of {options.Batch} rows");
            Console.WriteLine($"about {Math.Round(result.L0 / 5) * 5} of {options.Width} features are active in a row that was kept back;");
            Console.WriteLine($"together they leave less than {Math.Ceiling(result.Fvu * 20) * 5} % of the variance unexplained");

            // 3. What was written is an SAE like any other.
            using var sae = JumpReluSae.Open(device, Path.Combine(folder, "saelens"));
            CodeList codes = Encode(device, sae, x);
            foreach (string word in (string[])[" she", " days", " king"])
                Console.WriteLine($"the best feature for '{word}': {Describe(tokenizer, tokens, codes, tokenizer.Encode(word)[^1])}");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>The values at the site, [tokens, d_model].</summary>
    private static float[] Activations(Gemma2Model model, int[] ids)
    {
        float[] values = new float[ids.Length * model.Config.ModelDim];
        using Session session = model.NewSession();
        session.Hooks.Add(Site, (call, _, value) => call.Device.Read(value, values));
        model.Forward(ids, session, LogitRows.None);
        return values;
    }

    private static CodeList Encode(CpuDevice device, JumpReluSae sae, List<float> x)
    {
        Mat rows = device.CreateMat(x.Count / sae.Config.InputDim, sae.Config.InputDim, "rows");
        using DeviceBuffer room = rows.Buffer;
        device.Write(x.ToArray(), rows);
        using SparseCodes codes = sae.CreateCodes();
        sae.Encode(rows, codes);
        var list = new CodeList();
        device.Read(codes, list);
        return list;
    }

    /// <summary>The feature whose firing agrees best with a token (F1), and how well it does.</summary>
    private static string Describe(GemmaTokenizer tokenizer, List<int> tokens, CodeList codes, int token)
    {
        var fires = new Dictionary<int, (int All, int Hits)>();
        for (int r = 0; r < tokens.Count; r++)
        {
            foreach (int feature in codes.FeaturesOf(r))
            {
                (int all, int hits) = fires.GetValueOrDefault(feature);
                fires[feature] = (all + 1, hits + (tokens[r] == token ? 1 : 0));
            }
        }

        int count = tokens.Count(t => t == token);
        (int All, int Hits) best = fires.Values.MaxBy(f => 2.0 * f.Hits / (f.All + count));
        string quality = 2.0 * best.Hits / (best.All + count) > 0.8 ? "fires there and hardly anywhere else" : "fires elsewhere, too";
        return $"'{tokenizer.Decode([token])}' occurs {count} times; it {quality}";
    }

    /// <summary>A tale of two sentences, the same in every run.</summary>
    private static string Tale(int n)
    {
        string Pick(int factor, params string[] words) => words[(n * factor + (n / 7)) % words.Length];
        bool isGirl = n % 2 == 0;
        string child = isGirl ? "girl" : "boy", he = isGirl ? "she" : "he", his = isGirl ? "her" : "his";
        string name = isGirl ? Pick(3, "Anna", "Lena", "Clara", "Marie") : Pick(3, "Peter", "Otto", "Felix", "Ben");
        return $"Once upon a time there lived a {Pick(5, "king", "miller", "widow", "shepherd")} who had a child called {name}. " +
            $"The {child} loved the {Pick(11, "river", "forest", "castle", "garden")} more than anything, and {he} walked for " +
            $"{Pick(13, "two", "three", "five")} days to find {his} {Pick(2, "grandmother", "brother", "horse", "ring")}.";
    }
}
