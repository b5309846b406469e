using KernelScope.Evaluation;
using KernelScope.Web.Copy;
using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace KernelScope.Web.Tests;

/// <summary>The pages that <c>serve --export</c> writes, opened from the disk: every exercise with recorded answers.</summary>
[Collection(nameof(DemoServer))]
public sealed class RecordedCopyTests(DemoServer server, Browser browser, RecordedCopyTests.Folder folder)
    : IClassFixture<Browser>, IClassFixture<RecordedCopyTests.Folder>
{
    private static readonly LocatorAssertionsToHaveCountOptions Patient = new() { Timeout = 60_000 };

    [SkippableFact]
    public async Task Every_exercise_can_be_done_without_a_server()
    {
        await using Visit visit = await OpenAsync();
        IPage page = visit.Page;
        await Expect(page.Locator(".recorded-only").First).ToBeVisibleAsync();
        for (int theme = 0; theme < 5; theme++)
        {
            await page.Locator("#themes button").Nth(theme).ClickAsync();
            await Expect(page.Locator("#microscope-status")).ToContainTextAsync("tokens");
            await Expect(page.Locator("#microscope-features li").First).ToBeVisibleAsync();
        }

        await page.Locator("#dense").CheckAsync();
        await page.Locator("#themes button").Nth(1).ClickAsync();
        await page.Locator("#microscope-tokens button", new() { HasTextString = "thou" }).First.ClickAsync();
        await Expect(page.Locator("#microscope-features li")).ToHaveCountAsync(5, Patient);
        await page.Locator("#microscope-features li button").First.ClickAsync();
        await page.Locator("#themes button", new() { HasTextString = "for the task" }).ClickAsync();
        await Expect(page.Locator("#task")).ToContainTextAsync("Done!");
        await page.Locator("[data-next=analyze]").First.ClickAsync();
        await Expect(page.Locator("#analyze-examples p")).ToHaveCountAsync(4, Patient);
        await Expect(page.Locator("#wrong p")).ToHaveCountAsync(3, Patient);
        ILocator puzzle = page.Locator("#puzzles > div").First;
        await puzzle.GetByText("Test").ClickAsync();
        await Expect(puzzle.Locator(".tokens")).ToHaveCountAsync(1, Patient);
        await puzzle.GetByText("Reveal the label").ClickAsync();
        await Expect(puzzle.Locator("p[role=status]")).ToContainTextAsync("digits of a temperature");
        await page.Locator("[data-next=steer]").First.ClickAsync();
        for (int preset = 3; preset >= 0; preset--)
        {
            await page.Locator("#presets button").Nth(preset).ClickAsync();
            await page.Locator("#steer-form button.main").ClickAsync();
            await Expect(page.Locator("#steer-status")).ToHaveTextAsync("Done.", new() { Timeout = 60_000 });
        }

        // The texts that transformers gives.
        await Expect(page.Locator("#plain-text")).ToContainTextAsync("Lena. The rain fell all day and the roads turned to mud.");
        await Expect(page.Locator("#steered-text")).ToContainTextAsync("Ben. A thick fog hid the trees, and nothing could be seen.");
        await page.Locator("[data-next=next]").First.ClickAsync();
        await Expect(page.Locator("#curl")).ToContainTextAsync("http://127.0.0.1:3000/api/search-topk-by-token");
    }

    [SkippableFact]
    public async Task Labels_and_feature_pages_are_in_it()
    {
        await using Visit visit = await OpenAsync();
        IPage page = visit.Page;
        await Expect(page.Locator("#microscope-status")).ToContainTextAsync("tokens");
        await page.Locator("#query").FillAsync("Girl hero");
        await page.Keyboard.PressAsync("Enter");
        await page.Locator("#results a", new() { HasTextString = "1738" }).ClickAsync();
        await Expect(page.Locator("#title")).ToContainTextAsync("1738");
        await Expect(page.Locator("#explanations")).ToContainTextAsync("girl");
        await Expect(page.Locator("#nearest li")).ToHaveCountAsync(10, Patient);
        await Expect(page.Locator("#examples p").First).ToBeVisibleAsync();
        await Expect(page.Locator("#testbox")).ToBeHiddenAsync();
        // The page before it is the last one that is there.
        await page.Locator("#around [rel=prev]").ClickAsync();
        await Expect(page.Locator("#title")).Not.ToContainTextAsync("1738");
        await Expect(page.Locator("#nearest li")).ToHaveCountAsync(10, Patient);
        await page.Locator(".home").ClickAsync();
        await Expect(page.Locator("#about")).ToContainTextAsync("Model demo");
    }

    [SkippableFact]
    public async Task It_fits_any_width_and_is_accessible()
    {
        await using Visit visit = await OpenAsync();
        await Expect(visit.Page.Locator("#microscope-status")).ToContainTextAsync("tokens", new() { Timeout = 60_000 });
        await visit.RequireFittingAndAccessibleAsync("copy");
    }

    [Fact]
    public async Task It_knows_its_own_from_other_folders()
    {
        string path = await folder.PathAsync(server), other = Directory.CreateDirectory($"{path}-other").FullName;
        Assert.True(RecordedCopy.MayReplace(path));
        Assert.True(RecordedCopy.MayReplace(other));
        File.WriteAllText(Path.Combine(other, "notes.txt"), "mine");
        Assert.False(RecordedCopy.MayReplace(other));
        foreach (string page in Directory.EnumerateFiles(path, "*.html"))
            Assert.DoesNotContain("=\"/", File.ReadAllText(page), StringComparison.Ordinal);
    }

    private async Task<Visit> OpenAsync() =>
        await browser.OpenAsync(new Uri(Path.Combine(await folder.PathAsync(server), "index.html")));

    /// <summary>A copy, made once.</summary>
    public sealed class Folder : IDisposable
    {
        private readonly string _root = Directory.CreateTempSubdirectory("kernelscope-web-tests-").FullName;
        private string? _path;

        internal async Task<string> PathAsync(DemoServer server)
        {
            if (_path is null)
            {
                string path = Path.Combine(_root, "copy");
                using var copy = new RecordedCopy(server.Url, "demo", DemoServer.Source);
                // Some labels: each makes a page.
                FeatureLabels labels = FeatureLabels.Create(server.Options.Labels!.All.Where(l => l.Index is < 100 or 1738));
                int features = await copy.WriteAsync(path, labels, null, default);
                Assert.Equal(features, Directory.EnumerateFiles(Path.Combine(path, "data", DemoServer.Source)).Count());
                _path = path;
            }

            return _path;
        }

        public void Dispose() => Directory.Delete(_root, recursive: true);
    }
}
