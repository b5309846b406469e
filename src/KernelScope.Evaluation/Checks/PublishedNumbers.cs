using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>A row of SAEBench's table for gemma-scope-2b-pt-res, width 16k.</summary>
/// <param name="Layer">The layer whose residual stream it reads.</param>
/// <param name="Label">The L0 in the SAE's path.</param>
/// <param name="L0">Measured L0.</param>
/// <param name="Explained">Fraction of variance explained; null where a few tokens of massive activation decide it.</param>
/// <param name="SplicedLoss">Cross-entropy with the reconstruction spliced in, nats.</param>
/// <param name="Recovered">Loss recovered.</param>
internal sealed record SaeBenchRow(int Layer, int Label, double L0, double? Explained, double SplicedLoss, double Recovered);

/// <summary>A greedy continuation from transformers' own integration tests.</summary>
internal sealed record GreedyText(string Prompt, string Continuation);

/// <summary>What others have published about the real weights.</summary>
internal static class PublishedNumbers
{
    /// <summary>Clean cross-entropy on SAEBench's text, nats.</summary>
    public const double SaeBenchCleanLoss = 2.4399;

    /// <summary>The text of gemma.cpp's test <c>CrossEntropySmall</c>.</summary>
    public const string CrossEntropyText = "The capital of Hungary is Budapest which is located in Europe.";

    /// <summary>The prompt of the sanity check in the tutorial that came with Gemma Scope, for residual layer 20, width 16k, average L0 71.</summary>
    public const string TutorialPrompt = "Would you be able to travel through time using a wormhole?";

    /// <summary>SAEBench's results at commit 5f2bf51, <c>gemma-scope-2b-pt-res_data.json</c>: gemma-2-2b, 250 inputs of 128 tokens of OpenWebText.</summary>
    public static readonly SaeBenchRow[] SaeBench =
    [
        new(3, 14, 16.2, .7259, 2.6564, .9785), new(3, 28, 30.9, .7841, 2.6391, .9802), new(3, 59, 62.55, .8123, 2.5659, .9875),
            new(3, 142, 158.6, .8603, 2.4907, .9950), new(3, 315, 332.5, .9012, 2.4663, .9974),
        new(7, 20, 22.1, .7288, 2.6588, .9782), new(7, 36, 40.2, .7659, 2.5996, .9841), new(7, 69, 77.5, .7945, 2.5623, .9878),
            new(7, 137, 153.1, .8463, 2.5462, .9894), new(7, 285, 310.6, .8837, 2.5502, .9890),
        new(11, 22, 21.65, .7061, 2.7765, .9665), new(11, 41, 55.5, null, 2.6753, .9766), new(11, 80, 85.0, .7735, 2.6091, .9832),
            new(11, 168, 176.7, .8210, 2.5537, .9887), new(11, 393, 417.6, .8898, 2.5242, .9916),
        new(15, 23, 22.85, .7088, 2.8511, .9590), new(15, 41, 41.6, .7616, 2.7308, .9710), new(15, 78, 120.1, null, 2.6508, .9790),
            new(15, 150, 146.0, .8438, 2.5705, .9870), new(15, 308, 317.3, .8832, 2.5239, .9916),
        new(19, 23, 52.8, null, 2.8571, .9584), new(19, 40, 40.9, .7518, 2.7660, .9675), new(19, 73, 75.6, .7922, 2.6724, .9769),
            new(19, 137, 141.2, .8283, 2.6047, .9836), new(19, 279, 284.9, .8686, 2.5463, .9894),
    ];

    /// <summary>The size that a config is of, <c>2B</c>, <c>9B</c> or <c>27B</c>; null: none of Google's.</summary>
    public static string? SizeOf(Gemma2Config config) => (config.LayerCount, config.ModelDim, config.VocabSize) switch
    {
        (26, 2304, 256_000) => "2B",
        (42, 3584, 256_000) => "9B",
        (46, 4608, 256_000) => "27B",
        _ => null,
    };

    /// <summary>Bits a character by gemma.cpp's <c>CrossEntropySmall</c>, ± 0.02 there.</summary>
    public static double BitsPerCharacter(string size) => size switch { "2B" => 1.14, "9B" => 1.28, _ => 1.30 };

    /// <summary>Greedy texts of 20 tokens of the base models by transformers' tests (bfloat16; those that do not depend on the GPU they ran on).</summary>
    public static GreedyText[] Greedy(string size) => size switch
    {
        "2B" => [new("Hello I am doing", " a project on the 1960s and I am trying to find out what the average")],
        "9B" =>
        [
            new("Hello I am doing", " a project on the 1918 flu pandemic and I am trying to find out how many"),
            new("Hi today", " I'm going to be talking about the history of the United States. The United States of America"),
        ],
        _ => [],
    };
}
