using System.Text;
using System.Text.Json;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Training.Runs;

namespace KernelScope.Training.Suites;

/// <summary>
/// A suite: every site × layer × width × sparsity × seed of a <c>suite.json</c>, trained on one run. Items of equal content have equal ids
/// on every machine.
/// </summary>
/// <param name="Run">The run's plan.</param>
/// <param name="Items">In the order of the file: sites, layers, widths, sparsities, seeds.</param>
/// <param name="Sequences">Most sequences of the evaluation with the model.</param>
/// <param name="Id">Hash of the items' ids and of what is evaluated.</param>
internal sealed record SuitePlan(RunPlan Run, IReadOnlyList<SuiteItem> Items, int Sequences, string Id)
{
    /// <summary>Sparsities where the file names none; a pilot scales them so that they bracket <see cref="SuitePilot.LowL0"/> to
    /// <see cref="SuitePilot.HighL0"/>.</summary>
    public static readonly double[] Ladder = [1.5e-4, 3e-4, 6e-4, 1.2e-3, 2.4e-3];

    private const int MaxLength = 1 << 24, MostItems = 1_000_000, DefaultSequences = 2048;

    private static readonly string[] Keys = ["run", "sites", "layers", "widths", "sparsities", "target_l0s", "ks", "seeds",
        "steps", "rows", "options",
        "evaluate_sequences"];

    // What decides how sparse the SAEs of a place are: one of them, of the place itself or of all.
    private static readonly string[] Lists = ["sparsities", "target_l0s", "ks"];

    private static readonly string[] OptionKeys = ["activation", "batch", "lr", "lr_warm_up", "lr_decay_last", "sparsity_warm_up",
        "bandwidth", "theta", "theta_min", "clip", "parameter", "scale", "scale_out", "skip", "dead_rows", "bucket", "validation"];

    /// <summary>Reads a suite file and expands it over the sites of a run.</summary>
    /// <param name="path">The file.</param>
    /// <param name="run">The run that it is trained on.</param>
    /// <param name="pilot">Whether pilots scale the default ladder.</param>
    /// <exception cref="InvalidDataException">The file is malformed, or asks for what the run does not have; the message names the
    /// key.</exception>
    public static SuitePlan Read(string path, RunPlan run, bool pilot)
    {
        using JsonDocument document = JsonText.ReadObject(path, MaxLength);
        return new Reader(path, run, pilot).Read(new RunField(document.RootElement, path, ""));
    }

    private sealed class Reader(string path, RunPlan run, bool pilot)
    {
        private sealed record Place(string Key, Site Site, Site? SiteOut, RunField Own);

        public SuitePlan Read(RunField root)
        {
            RequireKnown(root, "", Keys);
            if (root.Has("run") && !run.Id.StartsWith(root["run"].Text, StringComparison.Ordinal))
                throw BadFile.At(path, $"run is '{BadFile.Printable(root["run"].Text, 80)}', and --from is the run {run.Id[..12]}.");
            TrainingOptions common = ReadOptions(root, out RunRowsOptions rows);
            int[] widths = Ints(root, "widths", 1, 1 << 24);
            long[] seeds = root.Has("seeds") ? [.. root["seeds"].Items.Select(s => s.Long(0, long.MaxValue))] : [0];
            RequireList("widths", widths.Length);
            RequireList("seeds", seeds.Length);
            var items = new List<SuiteItem>();
            foreach (Place place in Places(root))
            {
                foreach ((HookPoint site, HookPoint? siteOut) in Points(root, place))
                {
                    foreach (int width in widths)
                    {
                        foreach (TrainingOptions options in Sparsities(root, place, common with { Width = width }, out bool scaled))
                        {
                            foreach (long seed in seeds)
                                items.Add(Item(site, siteOut, options with { Seed = seed }, rows, scaled && pilot));
                            if (items.Count > MostItems)
                                throw BadFile.At(path, $"the suite has more than {MostItems} items.");
                        }
                    }
                }
            }

            string? twice = items.GroupBy(i => i.Name).FirstOrDefault(g => g.Count() > 1)?.Key;
            if (twice is not null)
                throw BadFile.At(path, $"the suite names the item {twice} twice.");
            int sequences = root.Has("evaluate_sequences") ? root["evaluate_sequences"].Int(1, 1 << 24) : DefaultSequences;
            string id = CanonicalJson.Hash(Encoding.UTF8.GetBytes($"suite 1 {sequences} {string.Join(' ', items.Select(i => i.Id))}"));
            return new SuitePlan(run, items, sequences, id);
        }

        private SuiteItem Item(HookPoint site, HookPoint? siteOut, TrainingOptions options, RunRowsOptions rows, bool needsPilot)
        {
            try
            {
                options.Require();
                if (siteOut is null && (options.Skip || options.ScaleOut is not null))
                    throw new ArgumentException($"options.skip and options.scale_out are for transcoders, and {site} has no site_out.");
                _ = SaeExport.Architecture(options.Activation, siteOut is not null, options.Skip);
                return SuiteItem.Create(run.Id, site, siteOut, options, Order(rows, options.Seed), needsPilot);
            }
            catch (Exception e) when (e is ArgumentException or NotSupportedException)
            {
                throw BadFile.At(path, e.Message);
            }
        }

        private static RunRowsOptions Order(RunRowsOptions rows, long seed) => new()
        {
            Seed = seed,
            BucketRows = rows.BucketRows,
            Validation = rows.Validation
        };

        private TrainingOptions ReadOptions(RunField root, out RunRowsOptions rows)
        {
            var defaults = new TrainingOptions { Width = 1 };
            rows = new RunRowsOptions();
            RunField options = root;
            bool given = root.Has("options");
            if (given)
            {
                options = root["options"];
                RequireKnown(options, "options.", OptionKeys);
            }

            bool Has(string key) => given && options.Has(key);
            double Real(string key, double value) => Has(key) ? options[key].Double : value;
            long Number(string key, long value) => Has(key) ? options[key].Long(0, long.MaxValue) : value;
            rows = new RunRowsOptions
            {
                BucketRows = Has("bucket") ? options["bucket"].Int(1, int.MaxValue / 2) : rows.BucketRows,
                Validation = Real("validation", rows.Validation),
            };
            if (!(rows.Validation is >= 0 and < 1))
                throw options["validation"].Bad("a share from 0 to less than 1");
            int batch = Has("batch") ? options["batch"].Int(1, 1 << 24) : defaults.Batch;
            return defaults with
            {
                Activation = Has("activation") ? Activation(options["activation"]) : defaults.Activation,
                Batch = batch,
                Steps = Steps(root, batch, defaults.Steps),
                LearningRate = Real("lr", defaults.LearningRate),
                LearningRateWarmUp = Number("lr_warm_up", defaults.LearningRateWarmUp),
                LearningRateDecay = Number("lr_decay_last", defaults.LearningRateDecay),
                SparsityWarmUp = Number("sparsity_warm_up", defaults.SparsityWarmUp),
                Bandwidth = Real("bandwidth", defaults.Bandwidth),
                Threshold = Real("theta", defaults.Threshold),
                ThresholdFloor = Real("theta_min", defaults.ThresholdFloor),
                Clip = Real("clip", defaults.Clip),
                Parameter = Has("parameter") ? Parameter(options["parameter"]) : defaults.Parameter,
                Scale = Has("scale") ? options["scale"].Double : null,
                ScaleOut = Has("scale_out") ? options["scale_out"].Double : null,
                Skip = Has("skip") && options["skip"].Bool,
                DeadRows = Number("dead_rows", defaults.DeadRows),
            };
        }

        private long Steps(RunField root, int batch, long value)
        {
            if (root.Has("steps") && root.Has("rows"))
                throw BadFile.At(path, "steps and rows both say how long is trained; one of them does.");
            return root.Has("steps") ? root["steps"].Long(1, long.MaxValue)
                : root.Has("rows") ? Math.Max(1, root["rows"].Long(1, long.MaxValue) / batch) : value;
        }

        private static TrainingActivation Activation(RunField value) => value.Text switch
        {
            "jumprelu" => TrainingActivation.JumpRelu,
            "topk" => TrainingActivation.TopK,
            "batchtopk" => TrainingActivation.BatchTopK,
            "relu" => TrainingActivation.Relu,
            _ => throw value.Bad("jumprelu, topk, batchtopk or relu"),
        };

        private static ThresholdParameter Parameter(RunField value) => value.Text switch
        {
            "theta" => ThresholdParameter.Theta,
            "log_theta" => ThresholdParameter.LogTheta,
            _ => throw value.Bad("theta or log_theta"),
        };

        private IEnumerable<Place> Places(RunField root)
        {
            RequireList("sites", root["sites"].Count);
            foreach ((RunField item, int i) in root["sites"].Items.Select((item, i) => (item, i)))
            {
                string key = $"sites[{i}]";
                if (item.Has("site"))
                {
                    RequireKnown(item, $"{key}.", ["site", "site_out", .. Lists]);
                    yield return new Place(key, Kind(item["site"]), item.Has("site_out") ? Kind(item["site_out"]) : null, item);
                }
                else
                {
                    yield return new Place(key, Kind(item), null, item);
                }
            }
        }

        /// <summary>A site without its layer.</summary>
        private static Site Kind(RunField value)
        {
            string text = value.Text;
            return HookPoint.TryParse($"{text}.0", out HookPoint point) && HookPoint.NameOf(point.Site) == text ? point.Site
                : throw value.Bad("a site without its layer, such as resid_post");
        }

        private (HookPoint Site, HookPoint? SiteOut)[] Points(RunField root, Place place)
        {
            bool IsIn(Site site, int layer) => run.Sites.Any(s => s.Point == new HookPoint(site, layer));
            bool all = !root.Has("layers") || root["layers"].IsText("all");
            int[] layers = all
                ? [.. run.Sites.Where(s => s.Point.Site == place.Site && (place.SiteOut is not Site target || IsIn(target, s.Point.Layer)))
                    .Select(s => s.Point.Layer).Order()]
                : Ints(root, "layers", 0, 1 << 16);
            if (layers.Length == 0)
                throw BadFile.At(path, $"{place.Key}: the run has rows of {HookPoint.NameOf(place.Site)}" +
                    $"{(place.SiteOut is Site writes ? $" and {HookPoint.NameOf(writes)}" : "")} at no layer; it has " +
                    $"{string.Join(", ", run.Sites.Select(s => s.Name))}.");
            var points = new List<(HookPoint, HookPoint?)>();
            foreach (int layer in layers)
            {
                foreach (Site site in place.SiteOut is Site target ? [place.Site, target] : (Site[])[place.Site])
                {
                    if (!IsIn(site, layer))
                        throw BadFile.At(path, $"layers: the run has no rows of {new HookPoint(site, layer)}, which {place.Key} asks for.");
                }

                points.Add((new HookPoint(place.Site, layer), place.SiteOut is Site writes ? new HookPoint(writes, layer) : null));
            }

            return [.. points];
        }

        /// <summary>What one place, width and seed are trained with, sparsity by sparsity; the last say is that of the site.</summary>
        private TrainingOptions[] Sparsities(RunField root, Place place, TrainingOptions options, out bool scaled)
        {
            scaled = false;
            bool counts = options.Activation is TrainingActivation.TopK or TrainingActivation.BatchTopK;
            string? idle = Lists.FirstOrDefault(k => (k == "ks") != counts && (root.Has(k) || place.Own.Has(k)));
            if (idle is not null)
                throw BadFile.At(path, $"{idle} does nothing with the activation {OptionsJson.NameOf(options.Activation)}, which takes " +
                    $"{(counts ? "ks" : "sparsities or target_l0s")}.");
            RunField from = Lists.Any(place.Own.Has) ? place.Own : root;
            string[] given = [.. Lists.Where(from.Has)];
            if (given.Length > 1)
                throw BadFile.At(path, $"{given[0]} and {given[1]} both say how sparse the codes are; one of them does.");
            if (given is not [string key])
            {
                if (counts)
                    throw BadFile.At(path, "ks is missing: how many features of a row are active.");
                scaled = true;
                return [.. Ladder.Select(s => options with { Sparsity = s })];
            }

            RunField list = from[key];
            RequireList(key, list.Count);
            return [.. list.Items.Select(value => key switch
            {
                "ks" => options with { K = value.Int(1, int.MaxValue) },
                "target_l0s" => options with { TargetL0 = value.Double > 0 ? value.Double : throw value.Bad("a number above 0") },
                _ => options with { Sparsity = value.Double },
            })];
        }

        private static int[] Ints(RunField root, string key, int min, int max) => [.. root[key].Items.Select(v => v.Int(min, max))];

        private void RequireList(string key, int count)
        {
            if (count == 0)
                throw BadFile.At(path, $"{key} is an empty list; a suite needs one value at least.");
        }

        private void RequireKnown(RunField value, string prefix, string[] known)
        {
            string? unknown = value.Members.Select(m => m.Name).FirstOrDefault(n => !known.Contains(n));
            if (unknown is not null)
                throw BadFile.At(path, $"'{prefix}{BadFile.Printable(unknown, 80)}' is not a key of a suite; there are " +
                    $"{string.Join(", ", known)}.");
        }
    }
}
