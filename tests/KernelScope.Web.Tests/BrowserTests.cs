using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace KernelScope.Web.Tests;

/// <summary>The pages as people use them.</summary>
[Collection(nameof(DemoServer))]
public sealed class BrowserTests(DemoServer server, Browser browser) : IClassFixture<Browser>
{
    private const string Heroine =
        "Once upon a time a girl lived near the mill. She wished for a ring. More than anything she wished for a golden ring.";
    private static readonly LocatorAssertionsToHaveCountOptions Patient = new() { Timeout = 60_000 };

    [SkippableFact]
    public async Task Every_exercise_can_be_done_by_mouse()
    {
        await using Visit visit = await browser.OpenAsync(server, "/");
        IPage page = visit.Page;
        await page.Locator("#themes button").Nth(1).ClickAsync();
        ILocator thou = page.Locator("#microscope-tokens button", new() { HasTextString = "thou" }).First;
        await thou.ClickAsync();
        await Expect(page.Locator("#microscope-features li")).ToHaveCountAsync(5, Patient);
        await page.Locator("#text").FillAsync(Heroine);
        await page.Locator("#own button").ClickAsync();
        await Expect(page.Locator("#task")).ToContainTextAsync("Done!", new() { Timeout = 60_000 });
        await page.Locator("[data-next=analyze]").First.ClickAsync();
        await Expect(page.Locator("#analyze-examples p")).ToHaveCountAsync(4, Patient);
        await page.Locator("#choices button").Nth(1).ClickAsync();
        await Expect(page.Locator("#answer")).ToContainTextAsync("Not quite");
        await page.Locator("#choices button").First.ClickAsync();
        await Expect(page.Locator("#answer")).ToContainTextAsync("Right");
        ILocator puzzle = page.Locator("#puzzles > div").First;
        await puzzle.GetByText("Test").ClickAsync();
        await Expect(puzzle.Locator(".tokens")).ToHaveCountAsync(1, Patient);
        await puzzle.GetByText("Reveal the label").ClickAsync();
        await Expect(puzzle.Locator("p[role=status]")).ToContainTextAsync("digits of a temperature");
        await page.Locator("[data-next=steer]").First.ClickAsync();
        await page.Locator("#steer-form button.main").ClickAsync();
        await Expect(page.Locator("#steer-status")).ToHaveTextAsync("Done.", new() { Timeout = 90_000 });
        // The texts that transformers gives.
        await Expect(page.Locator("#plain-text")).ToContainTextAsync("Lena. The rain fell all day and the roads turned to mud.");
        await Expect(page.Locator("#steered-text")).ToContainTextAsync("Ben. A thick fog hid the trees, and nothing could be seen.");
        await Expect(page.Locator("#live li")).ToHaveCountAsync(5, Patient);
        await page.Locator("[data-next=next]").First.ClickAsync();
        await Expect(page.Locator("#curl")).ToContainTextAsync("/api/search-topk-by-token");
    }

    [SkippableFact]
    public async Task Every_exercise_can_be_done_by_keyboard_and_survives_a_reload()
    {
        await using Visit visit = await browser.OpenAsync(server, "/");
        IPage page = visit.Page;
        await page.Locator("#themes button").First.FocusAsync();
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#microscope-status")).ToContainTextAsync("tokens");
        await page.Locator("#microscope-tokens button").First.FocusAsync();
        await page.Keyboard.PressAsync("Tab");
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#microscope-features li")).Not.ToHaveCountAsync(0, new() { Timeout = 60_000 });
        await page.Locator("[data-next=analyze]").First.FocusAsync();
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#h-analyze")).ToBeFocusedAsync();
        await page.Locator("#choices button").First.FocusAsync();
        await page.Keyboard.PressAsync("Space");
        await Expect(page.Locator("#answer")).ToContainTextAsync("Right");
        await page.ReloadAsync();
        await Expect(page.Locator("#analyze")).ToBeVisibleAsync();
        await page.Locator("[data-next=steer]").First.FocusAsync();
        await page.Keyboard.PressAsync("Enter");
        await page.Locator("#presets button").Nth(1).FocusAsync();
        await page.Keyboard.PressAsync("Enter");
        await page.Locator("#strength").FocusAsync();
        await page.Keyboard.PressAsync("ArrowRight");
        await Expect(page.Locator("#strength-out")).ToHaveTextAsync("-14");
        await page.Locator("#prompt").FocusAsync();
        await page.Locator("#steer-form button.main").FocusAsync();
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#steer-status")).ToHaveTextAsync("Done.", new() { Timeout = 90_000 });
    }

    [SkippableFact]
    public async Task The_demo_page_fits_any_width_and_is_accessible()
    {
        await using Visit visit = await browser.OpenAsync(server, "/");
        await Expect(visit.Page.Locator("#microscope-status")).ToContainTextAsync("tokens", new() { Timeout = 60_000 });
        foreach (string step in (string[])["analyze", "steer", "next"])
            await visit.Page.Locator($"[data-next={step}]").First.ClickAsync();
        await Expect(visit.Page.Locator("#wrong p")).ToHaveCountAsync(3, Patient);
        await visit.Page.Locator("#microscope-tokens button").Nth(4).ClickAsync();
        await visit.RequireFittingAndAccessibleAsync("demo");
    }

    [SkippableFact]
    public async Task A_feature_page_fits_any_width_and_is_accessible()
    {
        await using Visit visit = await browser.OpenAsync(server, $"/demo/{DemoServer.Source}/1738");
        await Expect(visit.Page.Locator("#nearest li")).ToHaveCountAsync(10, Patient);
        await visit.Page.Locator("#test button").ClickAsync();
        await Expect(visit.Page.Locator("#test-status")).ToContainTextAsync("Largest", new() { Timeout = 60_000 });
        await visit.RequireFittingAndAccessibleAsync("feature");
    }

    [SkippableFact]
    public async Task Labels_are_found_from_every_page()
    {
        await using Visit visit = await browser.OpenAsync(server, $"/demo/{DemoServer.Source}/320");
        await visit.Page.Locator("#query").FillAsync("girl");
        await visit.Page.Keyboard.PressAsync("Enter");
        await Expect(visit.Page.Locator("#results li").First).ToContainTextAsync("1738");
        await visit.Page.Locator("#results a").First.ClickAsync();
        await Expect(visit.Page.Locator("#title")).ToContainTextAsync("1738");
    }

    [SkippableFact]
    public async Task A_feature_that_never_fired_says_so()
    {
        int dead = await DeadAsync();
        await using Visit visit = await browser.OpenAsync(server, $"/demo/{DemoServer.Source}/{dead}");
        await Expect(visit.Page.Locator("#examples")).ToContainTextAsync("did not fire in", new() { Timeout = 60_000 });
    }

    [SkippableTheory]
    [InlineData(0, 0, 1)]
    [InlineData(5, 1, 1)]
    [InlineData(2047, 1, 0)]
    public async Task Pages_lead_to_those_before_and_after_where_there_are_such(int feature, int before, int after)
    {
        await using Visit visit = await browser.OpenAsync(server, $"/demo/{DemoServer.Source}/{feature}");
        await Expect(visit.Page.Locator("#goto")).ToHaveAttributeAsync("max", "2047");
        await Expect(visit.Page.Locator("#around [rel=prev]")).ToHaveCountAsync(before);
        await Expect(visit.Page.Locator("#around [rel=next]")).ToHaveCountAsync(after);
    }

    [SkippableFact]
    public async Task An_embedded_page_shows_what_it_is_told_to()
    {
        await using Visit visit = await browser.OpenAsync(server, $"/demo/{DemoServer.Source}/320?embed=true&embedplots=false");
        await Expect(visit.Page.Locator("header")).ToBeHiddenAsync();
        await Expect(visit.Page.Locator("#plots")).ToBeHiddenAsync();
        await Expect(visit.Page.Locator("#testbox")).ToBeVisibleAsync();
        IResponse? response = await visit.Page.GotoAsync($"/demo/{DemoServer.Source}/320?embed=true");
        Assert.Contains("frame-ancestors *", response!.Headers["content-security-policy"]);
        await visit.Page.RouteAsync("**/outer", route => route.FulfillAsync(new()
        {
            ContentType = "text/html",
            Body = $"<!DOCTYPE html><iframe src='/demo/{DemoServer.Source}/1738?embed=true&embedtest=false' width='600'></iframe>",
        }));
        await visit.Page.GotoAsync("/outer");
        IFrameLocator frame = visit.Page.FrameLocator("iframe");
        await Expect(frame.Locator("#explanations")).ToContainTextAsync("girl");
        await Expect(frame.Locator("#examples p").First).ToBeVisibleAsync();
        await Expect(frame.Locator("#testbox")).ToBeHiddenAsync();
    }

    [SkippableFact]
    public async Task Leaving_the_page_ends_its_stream()
    {
        await using Visit visit = await browser.OpenAsync(server, "/");
        foreach (string step in (string[])["analyze", "steer"])
            await visit.Page.Locator($"[data-next={step}]").First.ClickAsync();
        await visit.Page.Locator("#steer-form button.main").ClickAsync();
        await Expect(visit.Page.Locator("#steered-text")).Not.ToBeEmptyAsync(new() { Timeout = 60_000 });
        await visit.Page.GotoAsync($"/demo/{DemoServer.Source}/1");
        for (int n = 0; n < 1000 && server.Engine.Running > 0; n++)
            await Task.Delay(10);
        Assert.Equal(0, server.Engine.Running);
    }

    [SkippableFact]
    public async Task A_feature_that_fires_nearly_everywhere_shows_its_examples()
    {
        int dense = Demo.DenseFeatures("res.3.2k.l0_19").First();
        await using Visit visit = await browser.OpenAsync(server, $"/demo/{DemoServer.Source}/{dense}");
        await Expect(visit.Page.Locator("#examples p").First).ToBeVisibleAsync(new() { Timeout = 60_000 });
        await Expect(visit.Page.Locator("#histograms svg")).ToHaveCountAsync(2, Patient);
        await visit.Page.Locator("#around-tokens").SelectOptionAsync("5");
        await Expect(visit.Page.Locator("#examples p").First.Locator(".tok")).Not.ToHaveCountAsync(0);
        Assert.InRange(await visit.Page.Locator("#examples p").First.Locator(".tok").CountAsync(), 2, 11);
        await visit.Page.Locator("#around-tokens").SelectOptionAsync("0");
        Assert.True(await visit.Page.Locator("#examples p").First.Locator(".tok").CountAsync() > 33);
    }

    private async Task<int> DeadAsync()
    {
        for (int feature = 0; ; feature++)
        {
            string row = await server.Client.GetStringAsync($"/api/feature/demo/{DemoServer.Source}/{feature}");
            if (row.Contains("\"firing_positions\":0,", StringComparison.Ordinal))
                return feature;
        }
    }
}
